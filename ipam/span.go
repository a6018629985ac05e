package ipam

// span is a run of neighbouring blocks.
type span struct{ first, count int }

func (s span) end() int { return s.first + s.count }

// appendSpan adds a span behind the others and joins neighbours.
func appendSpan(spans []span, s span) []span {
	if n := len(spans); n > 0 && spans[n-1].end() == s.first {
		spans[n-1].count += s.count
		return spans
	}
	return append(spans, s)
}

// count is the number of blocks.
func count(spans []span) int {
	n := 0
	for _, s := range spans {
		n += s.count
	}
	return n
}

// minus returns the blocks of a that are not in b; both are in order.
func minus(a, b []span) []span {
	var out []span
	for _, s := range a {
		first := s.first
		for len(b) > 0 && b[0].end() <= first {
			b = b[1:]
		}
		for _, o := range b {
			if o.first >= s.end() {
				break
			}
			if o.first > first {
				out = append(out, span{first, o.first - first})
			}
			first = o.end()
		}
		if first < s.end() {
			out = append(out, span{first, s.end() - first})
		}
	}
	return out
}

// floorPow2 is the largest power of two that is at most n; 0 for none.
func floorPow2(n int) int {
	p := 1
	for p <= n {
		p *= 2
	}
	return p / 2
}

// inSpans tells whether a block is in one of some spans in order.
func inSpans(spans []span, block int) bool {
	for _, s := range spans {
		if block < s.end() {
			return block >= s.first
		}
	}
	return false
}
