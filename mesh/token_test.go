package mesh

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func newToken(t testing.TB) Token {
	t.Helper()
	tok, err := NewToken()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestTokenIsReadBackAsWritten(t *testing.T) {
	tok := newToken(t)
	for _, s := range []string{tok.String(), strings.ToUpper(tok.String()), "  " + tok.String() + "\n"} {
		if got, err := ParseToken(s); err != nil || got != tok {
			t.Errorf("ParseToken(%q): %v", s, err)
		}
	}
}

func TestEveryMistypedTokenIsRefused(t *testing.T) {
	s := newToken(t).String()
	for i := range s {
		c := byte('a')
		if s[i] == 'a' {
			c = 'b'
		}
		wrong := s[:i] + string(c) + s[i+1:]
		if _, err := ParseToken(wrong); err == nil {
			t.Errorf("%s was accepted for %s", wrong, s)
		}
	}
	for _, wrong := range []string{"", "weft1-", "weft2-" + s[6:], s[:len(s)-1], s + "a", strings.Repeat("x", 5000)} {
		if _, err := ParseToken(wrong); err == nil {
			t.Errorf("%.40q was accepted", wrong)
		}
	}
}

func TestEachMistakeInATokenHasItsOwnError(t *testing.T) {
	s := newToken(t).String()
	for wrong, want := range map[string]string{
		"secret": "does not begin with weft1-", "weft2-" + s[6:]: "version 2", s[:len(s)-1]: "missing or added",
		s[:10] + "!" + s[11:]: "a character that no token has", s[:len(s)-1] + flip(s): "mistyped",
	} {
		if _, err := ParseToken(wrong); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v; want %q", wrong, err, want)
		}
	}
}

// flip is another character for the last of a token.
func flip(s string) string {
	if strings.HasSuffix(s, "a") {
		return "q"
	}
	return "a"
}

func TestTokenDoesNotLeakIntoLogs(t *testing.T) {
	tok := newToken(t)
	var out strings.Builder
	cfg := Config{Token: tok}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "token", tok, "cfg", cfg)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "token", tok, "held", struct{ T Token }{tok})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+"\n", tok, struct{ T Token }{tok})
	}
	secrets := []string{tok.String(), fmt.Sprintf("%x", tok.Secret), fmt.Sprintf("%x", tok.String()),
		strings.Trim(fmt.Sprint(tok.Secret), "[]"), strings.ReplaceAll(strings.Trim(fmt.Sprint(tok.Secret), "[]"), " ", ",")}
	for _, s := range secrets {
		if strings.Contains(out.String(), s) {
			t.Errorf("the secret is in %q", out.String())
		}
	}
	if !strings.Contains(out.String(), tok.MeshID.String()) {
		t.Error("not even the mesh is told")
	}
}

func TestKeysDifferByPurposeAndMesh(t *testing.T) {
	a, b := newToken(t), newToken(t)
	if string(a.derive("gossip")) == string(a.derive("hello")) || string(a.derive("gossip")) == string(b.derive("gossip")) {
		t.Error("two keys are the same")
	}
	if v := a.VNI(); v == 0 || v >= 1<<24 {
		t.Errorf("VNI %d is not of 24 bits", v)
	}
}
