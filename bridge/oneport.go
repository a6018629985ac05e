package bridge

import (
	"net/netip"
	"slices"
)

// One port comes and goes at the cost of one port, however many there are: the
// whole of the tables is compared by set, and where more differs than this.

// because are the tables with the elements alone that they have for one port.
func because(cfg Config, p Port) tables {
	cfg = cfg.rulesAlone()
	cfg.Ports = []Port{p}
	with := tablesOf(cfg)
	without := tablesOf(cfg.withoutPort(p))
	for i := range with {
		for j := range with[i].sets {
			s := &with[i].sets[j]
			other, _ := without[i].set(s.name)
			for k := range other.elements {
				delete(s.elements, k)
			}
		}
	}
	return with
}

// withoutPort is the config as it is when a port is gone.
func (c Config) withoutPort(p Port) Config {
	c.Ports = slices.DeleteFunc(slices.Clone(c.Ports), func(o Port) bool { return o.HostInterface == p.HostInterface })
	c.Published = slices.DeleteFunc(slices.Clone(c.Published), func(o Published) bool {
		return slices.ContainsFunc(p.Addresses(), func(a netip.Prefix) bool { return a.Addr() == o.Address })
	})
	return c
}

// withPort is the config with a port as it is to be.
func (c Config) withPort(p Port) Config {
	i := slices.IndexFunc(c.Ports, func(o Port) bool { return o.HostInterface == p.HostInterface })
	c.Ports = slices.Clone(c.Ports)
	if i >= 0 {
		c.Ports[i] = p
	} else {
		c.Ports = append(c.Ports, p)
	}
	return c
}

// admit lets a port in, and leaves it to set to find what others have changed.
func (f *firewall) admit(cfg Config, p Port) error {
	if own := because(cfg, p); own.hasRulesOf(f.wrote) && !f.wrote.knows(p) && f.step(own, true) == nil {
		return nil
	}
	return f.follow(cfg.whole().withPort(p))
}

// knows tells whether a port is in the tables.
func (ts tables) knows(p Port) bool {
	return slices.ContainsFunc(ts, func(t table) bool { s, _ := t.set(portSet); return s.has(p.key()) })
}

// expel takes from the tables what they have for a port.
func (f *firewall) expel(cfg Config, p Port) error {
	own, rest := because(cfg, p), tablesOf(cfg.withoutPort(p).rulesAlone())
	if own.hasRulesOf(f.wrote) && rest.hasRulesOf(f.wrote) && f.step(own, false) == nil {
		return nil
	}
	return f.follow(cfg.whole().withoutPort(p))
}

// rulesAlone is the config without what is in elements alone and may be much: a
// thousand peers must not cost each port, either.
func (c Config) rulesAlone() Config {
	c.Ports, c.Guard.Peers = nil, nil
	return c
}

// follow is set without a look at what others have changed, if it can be.
func (f *firewall) follow(cfg Config) error {
	if f.update(tablesOf(cfg)) == nil {
		return nil
	}
	return f.set(cfg)
}

// step adds some elements to the tables that were written, or takes those away
// that are there.
func (f *firewall) step(own tables, come bool) error {
	var changes []change
	for i, t := range own {
		for j := range t.sets {
			s := &t.sets[j]
			there, _ := f.wrote[i].set(s.name)
			c := change{family: t.family, table: t.name, set: s}
			for k, v := range s.elements {
				old, ok := there.elements[k]
				switch {
				case come && ok && old != v:
					return errUnknown
				case come && !ok:
					c.come = append(c.come, k)
				case !come && ok:
					c.gone = append(c.gone, k)
				}
			}
			if len(c.gone)+len(c.come) > 0 {
				changes = append(changes, c)
			}
		}
	}
	if len(changes) == 0 {
		return nil
	}
	if err := f.change(changes); err != nil {
		return err
	}
	f.changed()
	for i := range f.wrote {
		for j := range f.wrote[i].sets {
			s := &f.wrote[i].sets[j]
			for _, c := range changes {
				if c.family == f.wrote[i].family && c.set.name == s.name {
					for _, k := range c.come {
						s.put(k, c.set.elements[k])
					}
					for _, k := range c.gone {
						delete(s.elements, k)
					}
				}
			}
		}
	}
	return nil
}
