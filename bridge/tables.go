package bridge

import (
	"fmt"
	"slices"
	"strings"
)

// tables are weft's own. They are written as a whole where it is not known what is
// there, and otherwise by what differs: the cost of an attach must not grow with the
// number of containers, and no packet may meet a set that is on its way out.
type tables []table

type table struct {
	family, name string
	counters     []string // that rules name
	looked       names    // counters that elements of maps name, and that come and go with them
	sets         []set
	chains       []chain // those that others jump to come first
}

// chain is a chain with its rules; without a hook others lead to it.
type chain struct {
	name, hook string
	rules      []string
}

// set is a set, or a map, with its elements by key.
type set struct {
	name, spec string
	isMap      bool
	elements   map[string]string
}

func (s *set) add(key string) { s.put(key, "") }

func (s *set) has(key string) bool { _, ok := s.elements[key]; return ok }

func (s *set) put(key, value string) {
	if s.elements == nil {
		s.elements = map[string]string{}
	}
	s.elements[key] = value
}

func (s set) kind() string {
	if s.isMap {
		return "map"
	}
	return "set"
}

// whole makes the tables anew, in one transaction. Counters go on from what they
// had.
func (ts tables) whole(counts map[string]counted) string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	for _, t := range ts {
		// After the add, the delete is no error where there was none.
		line("add table %s", t.at())
		line("delete table %s", t.at())
	}
	for _, t := range ts {
		line("add table %s", t.at())
		for _, c := range slices.Concat(t.counters, t.looked.without(nil)) {
			line("add counter %s %s { packets %d bytes %d; }", t.at(), c, counts[c].packets, counts[c].bytes)
		}
		line("%s", strings.TrimSuffix(t.changes(table{looked: t.looked}), "\n"))
	}
	return out.String()
}

// changes leads from other tables to these, in one transaction that touches only
// what differs: a packet that is judged meanwhile must find what its rules look
// into. It is "" where nothing differs; ok is false if only whole leads there.
func (ts tables) changes(from tables) (script string, ok bool) {
	if len(ts) != len(from) {
		return "", false
	}
	for i, t := range ts {
		if !t.resembles(from[i]) {
			return "", false
		}
		script += t.changes(from[i])
	}
	return script, true
}

// resembles tells whether what has one name in both tables is of one kind.
func (t table) resembles(o table) bool {
	if t.at() != o.at() || !slices.Equal(t.counters, o.counters) {
		return false
	}
	for _, s := range t.sets {
		if old, ok := o.set(s.name); ok && (old.spec != s.spec || old.isMap != s.isMap) {
			return false
		}
	}
	for _, c := range t.chains {
		if old, ok := o.chain(c.name); ok && old.hook != c.hook {
			return false
		}
	}
	return true
}

// changes leads from a table that resembles this one to it.
func (t table) changes(from table) string {
	var out strings.Builder
	line := func(what, name, format string, args ...any) {
		text := fmt.Sprintf("%s %s %s %s", what, t.at(), name, fmt.Sprintf(format, args...))
		out.WriteString(strings.TrimSpace(text) + "\n")
	}
	for _, c := range t.looked.without(from.looked) { // before elements that name them
		line("add counter", c, "")
	}
	for _, s := range t.sets {
		if _, ok := from.set(s.name); !ok {
			line("add "+s.kind(), s.name, "{ %s }", s.spec)
		}
	}
	for _, c := range t.chains { // all of them before the rules, which lead to some
		if _, ok := from.chain(c.name); !ok {
			line("add chain", c.name, "%s", bracketed(c.hook))
		}
	}
	var gone []string
	for _, c := range from.chains {
		if now, ok := t.chain(c.name); !ok || !slices.Equal(now.rules, c.rules) {
			line("flush chain", c.name, "")
			if !ok {
				gone = append(gone, c.name)
			}
		}
	}
	for _, c := range t.chains {
		if old, ok := from.chain(c.name); !ok || !slices.Equal(old.rules, c.rules) {
			for _, r := range c.rules {
				line("add rule", c.name, "%s", r)
			}
		}
	}
	for _, name := range gone {
		line("delete chain", name, "")
	}
	for _, c := range t.elementChanges(from) {
		out.WriteString(c.script())
	}
	for _, s := range from.sets {
		if _, ok := t.set(s.name); !ok {
			line("delete "+s.kind(), s.name, "")
		}
	}
	for _, c := range from.looked.without(t.looked) {
		line("delete counter", c, "")
	}
	return out.String()
}

func (t table) at() string { return t.family + " " + t.name }

func (t table) set(name string) (set, bool) {
	i := slices.IndexFunc(t.sets, func(s set) bool { return s.name == name })
	if i < 0 {
		return set{}, false
	}
	return t.sets[i], true
}

func (t table) chain(name string) (chain, bool) {
	i := slices.IndexFunc(t.chains, func(c chain) bool { return c.name == name })
	if i < 0 {
		return chain{}, false
	}
	return t.chains[i], true
}

type names map[string]bool

// without are the names that others do not have, in order.
func (n names) without(others names) (out []string) {
	for name := range n {
		if !others[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func bracketed(hook string) string {
	if hook == "" {
		return ""
	}
	return "{ " + hook + " }"
}
