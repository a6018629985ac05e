package daemon

import (
	"os"
	"strings"
	"testing"
)

func TestEveryWarningIsExplained(t *testing.T) {
	text, err := os.ReadFile("../docs/hosts.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conditions {
		if !strings.Contains(string(text), "\n| `"+c.code+"` |") {
			t.Errorf("docs/hosts.md does not say what %s means", c.code)
		}
	}
}
