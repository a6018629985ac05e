package ipam

import (
	"fmt"
	"strings"
	"testing"
)

func TestDbg(t *testing.T) {
	for _, m := range chosen() {
		w := run(m, *simSeed, &strings.Builder{})
		fmt.Println(w.fail)
		for _, h := range w.hosts {
			c := h.core
			fmt.Printf("host %d left %v self %x lodged %v idx %d voters %x sealed %x rec %d pend %x own %v wards %d former %x held %d members %d fence %d/%d\n", h.n, h.left, c.self[:2], c.lodged, c.view.Index, func() (o []string) {
				for _, v := range c.view.Voters {
					o = append(o, fmt.Sprintf("%x", v[:2]))
				}
				return
			}(), len(c.view.Sealed), c.view.Reclaimed, len(c.view.Pending()), c.own, len(c.wards), c.former, len(c.held), len(c.members), c.enforced, c.fence)
			if c.node != nil {
				fmt.Printf("   node state idx %d applied %d leader %v isleader %v voters %d\n", c.node.State().Index, 0, c.node.Leader(), c.node.IsLeader(), len(c.node.State().Voters))
			}
			for a, x := range c.held {
				if x.use != useOwn {
					fmt.Println("   ", a, x)
				}
			}
		}
	}
}
