package bridge

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/internal/nl"
)

// change is what becomes of the elements of one set.
type change struct {
	family, table string
	set           *set
	gone, come    []string // keys
}

// script is a change in nft's words.
func (c change) script() string {
	var out strings.Builder
	write := func(verb string, keys []string, values bool) {
		if len(keys) == 0 {
			return
		}
		keys = slices.Clone(keys)
		for i, k := range keys {
			if values {
				keys[i] += " : " + c.set.elements[k]
			}
		}
		fmt.Fprintf(&out, "%s element %s %s %s { %s }\n", verb, c.family, c.table, c.set.name, strings.Join(keys, ", "))
	}
	write("delete", c.gone, false)
	write("add", c.come, c.set.isMap)
	return out.String()
}

// elementChanges lead from the elements of tables with the same rules and sets to
// these.
func (ts tables) elementChanges(from tables) (out []change) {
	for i, t := range ts {
		for j := range t.sets {
			c := change{family: t.family, table: t.name, set: &t.sets[j]}
			old, _ := from[i].set(c.set.name)
			for k, v := range old.elements {
				if now, ok := c.set.elements[k]; !ok || now != v {
					c.gone = append(c.gone, k)
				}
			}
			for k, v := range c.set.elements {
				if before, ok := old.elements[k]; !ok || before != v {
					c.come = append(c.come, k)
				}
			}
			if len(c.gone)+len(c.come) > 0 {
				slices.Sort(c.gone)
				slices.Sort(c.come)
				out = append(out, c)
			}
		}
	}
	return out
}

// hasRulesOf tells whether two tables differ in elements at most, and in the
// counters that these name.
func (ts tables) hasRulesOf(o tables) bool {
	script, ok := ts.bare().changes(o.bare())
	return ok && script == ""
}

// hasCountersOf tells whether the elements of two tables name the same counters.
func (ts tables) hasCountersOf(o tables) bool {
	return slices.EqualFunc(ts, o, func(a, b table) bool { return maps.Equal(a.looked, b.looked) })
}

// bare are the tables without elements, and without the counters that these name.
func (ts tables) bare() tables {
	out := slices.Clone(ts)
	for i := range out {
		out[i].looked = nil
		out[i].sets = slices.Clone(out[i].sets)
		for j := range out[i].sets {
			out[i].sets[j].elements = nil
		}
	}
	return out
}

func script(changes []change) string {
	var out strings.Builder
	for _, c := range changes {
		out.WriteString(c.script())
	}
	return out.String()
}

// few is how many elements are sent to the kernel by ourselves: what is more has
// to be parted in messages, which nft knows how to do.
const few = 64

// change makes changes to the tables' elements in one transaction. To start nft
// takes as long as all the rest of an attach, so that the elements that each
// container brings are sent without it.
func (f *firewall) change(changes []change) error {
	gone, come, ok := kernelElements(changes)
	if !ok {
		_, err := nft(script(changes), "-f", "-")
		return err
	}
	if f.sets == nil {
		var err error
		if f.sets, err = nl.OpenSets(); err != nil {
			return err
		}
	}
	if err := f.sets.Change(gone, come); err != nil {
		return errors.Join(err, f.close())
	}
	return nil
}

// close lets go of the kernel.
func (f *firewall) close() error {
	sets := f.sets
	f.sets = nil
	if sets == nil {
		return nil
	}
	return sets.Close()
}

// kernelElements are changes as the kernel takes them; ok is false where only nft
// knows how it would have them, or there are many.
func kernelElements(changes []change) (gone, come []nl.Elements, ok bool) {
	n := 0
	for _, c := range changes {
		n += len(c.gone) + len(c.come)
		g, ok1 := c.set.kernelKeys(c.gone)
		a, ok2 := c.set.kernelKeys(c.come)
		if !ok1 || !ok2 || n > few {
			return nil, nil, false
		}
		if len(g) > 0 {
			gone = append(gone, nl.Elements{Family: c.family, Table: c.table, Set: c.set.name, Keys: g})
		}
		if len(a) > 0 {
			come = append(come, nl.Elements{Family: c.family, Table: c.table, Set: c.set.name, Keys: a})
		}
	}
	return gone, come, true
}

// kernelKeys are keys of the set as the kernel has them: each field in its own
// length, filled up to a multiple of four bytes.
func (s *set) kernelKeys(keys []string) (out [][]byte, ok bool) {
	kinds, ok := s.fields()
	if !ok {
		return nil, false
	}
	for _, key := range keys {
		values := strings.Split(key, " . ")
		if len(values) != len(kinds) {
			return nil, false
		}
		var b []byte
		for i, v := range values {
			field, ok := kernelField(kinds[i], v)
			if !ok {
				return nil, false
			}
			b = append(b, field...)
			if len(kinds) > 1 {
				b = append(b, make([]byte, -len(field)&3)...)
			}
		}
		out = append(out, b)
	}
	return out, true
}

// fields are the kinds of the set's fields; ok is false for a set of intervals
// and for a map.
func (s *set) fields() (kinds []string, ok bool) {
	spec, ok := strings.CutSuffix(s.spec, ";")
	if !ok || s.isMap || strings.Contains(spec, ";") {
		return nil, false
	}
	_, spec, ok = strings.Cut(spec, " ") // type or typeof
	return strings.Split(spec, " . "), ok
}

// kernelField is one field as the kernel has it, without what fills it up.
func kernelField(kind, v string) ([]byte, bool) {
	switch kind {
	case "ifname", "iifname", "oifname":
		name, err := strconv.Unquote(v)
		if err != nil || len(name) > 15 {
			return nil, false
		}
		return append([]byte(name), make([]byte, 16-len(name))...), true
	case "ether_addr", "ether saddr":
		mac, err := net.ParseMAC(v)
		return mac, err == nil && len(mac) == 6
	case "ipv4_addr", "ipv6_addr":
		a, err := netip.ParseAddr(v)
		return a.AsSlice(), err == nil && a.Is4() == (kind == "ipv4_addr") && a.Zone() == ""
	case "inet_proto":
		n, ok := map[string]byte{"tcp": 6, "udp": 17}[v]
		return []byte{n}, ok
	case "inet_service":
		n, err := strconv.ParseUint(v, 10, 16)
		return binary.BigEndian.AppendUint16(nil, uint16(n)), err == nil
	case target:
		b, err := hex.DecodeString(strings.TrimPrefix(v, "0x"))
		return b, err == nil && len(b) == 16
	}
	return nil, false
}
