package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
)

// Languages in which the mesh is drawn.
const (
	graphDot     = "dot"
	graphMermaid = "mermaid"
)

var graphs = map[string]func(api.Status) string{graphDot: dot, graphMermaid: mermaid}

// node is a peer in a drawing.
type node struct {
	id    uuid.UUID
	lines []string
	state string
}

// edge is a link between two peers: one of this host's, as it was measured, or one
// that does not work, as its ends say. What is not drawn between others works.
type edge struct {
	from, to uuid.UUID
	text     string
	broken   bool
}

// drawing is what there is to draw, in an order that depends on nothing but the
// mesh. Peers that have left or were removed are no part of it.
func drawing(s api.Status) (nodes []node, edges []edge) {
	known := map[uuid.UUID]bool{}
	for _, p := range s.Peers {
		if p.IsOut() {
			continue
		}
		known[p.ID] = true
		n := node{id: p.ID, state: p.State, lines: []string{p.Name, shortID(p.ID), p.State}}
		if p.Self {
			n.lines[2] = "this host"
		}
		nodes = append(nodes, n)
	}
	for _, l := range s.Links {
		if !known[l.Peer] {
			continue
		}
		e := edge{from: s.Self.ID, to: l.Peer, text: l.Transport}
		switch state := linkState(l); {
		case len(l.Via) > 0:
			if e.text, e.broken = linkWay(l), true; l.ViaRTT > 0 {
				e.text += " " + l.ViaRTT.Round(10*time.Microsecond).String()
			}
		case l.Reason != "":
			e.text, e.broken = "no link: "+l.Reason, true
		case state == "no answer":
			e.text, e.broken = l.Transport+", no answer", true
		case l.Answers:
			e.text += " " + l.RTT.Round(10*time.Microsecond).String()
		}
		edges = append(edges, e)
	}
	for _, p := range s.Peers {
		for _, o := range p.Broken {
			between := func(e edge) bool {
				return e.from == p.ID && e.to == o.ID || e.from == o.ID && e.to == p.ID
			}
			if known[p.ID] && known[o.ID] && !slices.ContainsFunc(edges, between) {
				from, to := p.ID, o.ID
				if slices.Compare(from[:], to[:]) > 0 {
					from, to = to, from
				}
				edges = append(edges, edge{from: from, to: to, text: "broken", broken: true})
			}
		}
	}
	slices.SortFunc(nodes, func(a, b node) int {
		return cmp.Or(cmp.Compare(a.lines[0], b.lines[0]), slices.Compare(a.id[:], b.id[:]))
	})
	slices.SortFunc(edges, func(a, b edge) int {
		return cmp.Or(slices.Compare(a.from[:], b.from[:]), slices.Compare(a.to[:], b.to[:]))
	})
	return nodes, edges
}

// quoting makes a text of lines, in which what means something else in the language
// is replaced.
func quoting(means *strings.Replacer, newline string) func(lines ...string) string {
	return func(lines ...string) string {
		var out []string
		for _, l := range lines {
			out = append(out, means.Replace(l))
		}
		return `"` + strings.Join(out, newline) + `"`
	}
}

// dot draws the mesh for graphviz.
func dot(s api.Status) string {
	quote := quoting(strings.NewReplacer(`\`, `\\`, `"`, `\"`), `\n`)
	colours := map[string]string{"failed": `, color=red, style=dashed`}
	nodes, edges := drawing(s)
	var b strings.Builder
	fmt.Fprintf(&b, "graph weft {\n  label=%s\n  node [shape=box]\n", quote("mesh "+s.Mesh.ID.String()))
	for _, n := range nodes {
		fmt.Fprintf(&b, "  %s [label=%s%s]\n", quote(n.id.String()), quote(n.lines...), colours[n.state])
	}
	for _, e := range edges {
		style := ""
		if e.broken {
			style = ", color=red, style=dashed"
		}
		fmt.Fprintf(&b, "  %s -- %s [label=%s%s]\n", quote(e.from.String()), quote(e.to.String()), quote(e.text), style)
	}
	b.WriteString("}\n")
	return b.String()
}

// mermaid draws it for documents.
func mermaid(s api.Status) string {
	quote := quoting(strings.NewReplacer(`#`, `#35;`, `"`, `#quot;`, `<`, `#lt;`, `>`, `#gt;`), "<br>")
	name := func(id uuid.UUID) string { return "p" + strings.ReplaceAll(id.String(), "-", "") }
	nodes, edges := drawing(s)
	var b strings.Builder
	b.WriteString("graph LR\n  classDef failed stroke:red,stroke-dasharray:4\n")
	for _, n := range nodes {
		fmt.Fprintf(&b, "  %s[%s]", name(n.id), quote(n.lines...))
		if n.state == "failed" {
			b.WriteString(":::failed")
		}
		b.WriteString("\n")
	}
	for _, e := range edges {
		line := "---"
		if e.broken {
			line = "-.-"
		}
		fmt.Fprintf(&b, "  %s %s|%s| %s\n", name(e.from), line, quote(e.text), name(e.to))
	}
	return b.String()
}
