package bridge

import (
	"fmt"
	"slices"
	"strings"
)

// tables are weft's own. They are written as a whole or, while only elements of
// their sets differ, by these: the cost of an attach must not grow with the
// number of containers that are there.
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

// frame is everything but the elements, in nft's words. Counters go on from
// what they had.
func (ts tables) frame(counts map[string]counted) string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	for _, t := range ts {
		at := t.family + " " + t.name
		line("add table %s", at)
		for _, c := range t.counters {
			line("%s", t.counter(c, counts))
		}
		for _, s := range t.sets {
			line("add %s %s %s { %s }", s.kind(), at, s.name, s.spec)
		}
		for _, c := range t.chains {
			line("add chain %s %s %s", at, c.name, bracketed(c.hook))
			for _, r := range c.rules {
				line("add rule %s %s %s", at, c.name, r)
			}
		}
	}
	return out.String()
}

func (t table) counter(name string, counts map[string]counted) string {
	return fmt.Sprintf("add counter %s %s %s { packets %d bytes %d; }", t.family, t.name, name, counts[name].packets, counts[name].bytes)
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

// whole makes the tables anew, in one transaction.
func (ts tables) whole(counts map[string]counted) string {
	var out strings.Builder
	for _, t := range ts {
		// After the add, the delete is no error where there was none.
		fmt.Fprintf(&out, "add table %s %s\ndelete table %s %s\n", t.family, t.name, t.family, t.name)
	}
	// nft gives a set that it makes its elements at once, so these come first.
	for _, t := range ts {
		if len(t.looked) > 0 {
			fmt.Fprintf(&out, "add table %s %s\n", t.family, t.name)
		}
		for _, c := range t.looked.without(nil) {
			fmt.Fprintln(&out, t.counter(c, counts))
		}
	}
	out.WriteString(ts.frame(counts))
	out.WriteString(script(ts.changes(nil)))
	return out.String()
}

// changes lead from the elements of tables with the same frame to these; from
// none, whose frame has the counters already, it is all elements.
func (ts tables) changes(from tables) (out []change) {
	for i, t := range ts {
		// Counters are there for as long as elements name them.
		if from != nil {
			for _, name := range t.looked.without(from[i].looked) {
				out = append(out, change{family: t.family, table: t.name, counter: t.counter(name, nil)})
			}
		}
		for j := range t.sets {
			c := change{family: t.family, table: t.name, set: &t.sets[j]}
			var old map[string]string
			if from != nil {
				old = from[i].sets[j].elements
			}
			for k, v := range old {
				if now, ok := c.set.elements[k]; !ok || now != v {
					c.gone = append(c.gone, k)
				}
			}
			for k, v := range c.set.elements {
				if before, ok := old[k]; !ok || before != v {
					c.come = append(c.come, k)
				}
			}
			if len(c.gone)+len(c.come) > 0 {
				slices.Sort(c.gone)
				slices.Sort(c.come)
				out = append(out, c)
			}
		}
		if from != nil {
			for _, name := range from[i].looked.without(t.looked) {
				out = append(out, change{family: t.family, table: t.name, counter: fmt.Sprintf("delete counter %s %s %s", t.family, t.name, name)})
			}
		}
	}
	return out
}

// set is the one of a name, if there is.
func (ts tables) set(family, name string) *set {
	for i := range ts {
		for j := range ts[i].sets {
			if s := &ts[i].sets[j]; ts[i].family == family && s.name == name {
				return s
			}
		}
	}
	return nil
}
