package bridge

import (
	"fmt"
	"maps"
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
	for _, t := range ts {
		for _, s := range t.sets {
			out.WriteString(s.changes(t, set{}))
		}
	}
	return out.String()
}

// changes leads from the elements of tables with the same frame to these; ""
// for none.
func (ts tables) changes(from tables) string {
	var out strings.Builder
	for i, t := range ts {
		old := from[i]
		// Counters are there for as long as elements name them.
		for _, c := range t.looked.without(old.looked) {
			fmt.Fprintln(&out, t.counter(c, nil))
		}
		for j, s := range t.sets {
			out.WriteString(s.changes(t, old.sets[j]))
		}
		for _, c := range old.looked.without(t.looked) {
			fmt.Fprintf(&out, "delete counter %s %s %s\n", t.family, t.name, c)
		}
	}
	return out.String()
}

// changes leads from what a set had to what it has.
func (s set) changes(t table, from set) string {
	var out strings.Builder
	var gone, come []string
	for _, k := range slices.Sorted(maps.Keys(from.elements)) {
		if v, ok := s.elements[k]; !ok || v != from.elements[k] {
			gone = append(gone, k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.elements)) {
		v := s.elements[k]
		if o, ok := from.elements[k]; ok && o == v {
			continue
		}
		if s.isMap {
			k += " : " + v
		}
		come = append(come, k)
	}
	if len(gone) > 0 {
		fmt.Fprintf(&out, "delete element %s %s %s { %s }\n", t.family, t.name, s.name, strings.Join(gone, ", "))
	}
	if len(come) > 0 {
		fmt.Fprintf(&out, "add element %s %s %s { %s }\n", t.family, t.name, s.name, strings.Join(come, ", "))
	}
	return out.String()
}
