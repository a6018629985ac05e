package bridge

import (
	"slices"
	"strings"

	"github.com/weft-net/weft/internal/nl"
)

// elsewhere is how the kernel shows the tables: they are written into a network
// namespace where nothing is, and read back. What nft prints depends on its
// version and on the kernel's, so there is nothing else to compare with.
func (ts tables) elsewhere() (shown []string, err error) {
	ns, err := nl.NewNamespace()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	err = ns.Do(func() error {
		if _, err := nft(ts.whole(nil), "-f", "-"); err != nil {
			return err
		}
		shown, err = ts.list()
		return err
	})
	return shown, err
}

// list is how the kernel shows the tables, without what changes by itself.
func (ts tables) list() (shown []string, err error) {
	for _, t := range ts {
		text, err := nft("", "-s", "list", "table", t.family, t.name)
		if err != nil {
			return nil, err
		}
		shown = append(shown, parts(text)...)
	}
	return shown, nil
}

// parts are what is in a table as nft lists it, sorted, since chains and sets are
// shown in the order in which they were made, and some elements in that in which
// they came.
func parts(listing string) []string {
	var out, part []string
	elements := false // the line belongs to those of a set
	for line := range strings.Lines(listing) {
		text := strings.TrimSpace(line)
		if begin, rest, ok := strings.Cut(text, "elements = {"); ok && begin == "" {
			elements, text = true, rest
		}
		switch {
		case elements:
			text, ends := strings.CutSuffix(text, "}")
			for e := range strings.SplitSeq(text, ",") {
				if e = strings.TrimSpace(e); e != "" {
					part = append(part, "element "+e)
				}
			}
			if ends {
				// No other line of a set follows them.
				slices.Sort(part[1:])
				elements = false
			}
		case text == "}" && part != nil:
			out, part = append(out, strings.Join(part, "\n")), nil
		case strings.HasSuffix(text, "{"):
			if len(part) > 1 { // what a table itself has, as that it is dormant
				out = append(out, strings.Join(part, "\n"))
			}
			part = []string{text}
		case text != "" && text != "}":
			part = append(part, text)
		}
	}
	slices.Sort(out)
	return out
}
