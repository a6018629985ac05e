package daemon

import (
	"fmt"
	"strings"
)

// checkRejections names one host of those that refuse this one for the same reason.
func checkRejections(d *Daemon) string {
	var first []string
	times := map[string]int{}
	all := d.mesh.Rejections()
	for _, r := range all {
		if times[r.Code]++; times[r.Code] == 1 {
			first = append(first, r.Error())
		}
	}
	if len(first) == 0 {
		return ""
	}
	more := ""
	if n := len(all) - len(first); n > 0 {
		more = fmt.Sprintf("; as do %d others", n)
	}
	return "no host of the mesh lets this one in: " + strings.Join(first, "; ") + more
}
