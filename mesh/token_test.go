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

func TestTokenDoesNotLeakIntoLogs(t *testing.T) {
	tok := newToken(t)
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "token", tok)
	for _, s := range []string{out.String(), fmt.Sprintf("%#v", tok)} {
		if strings.Contains(s, tok.String()) || strings.Contains(s, fmt.Sprintf("%x", tok.Secret)) {
			t.Errorf("the secret is in %q", s)
		}
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

func FuzzParseToken(f *testing.F) {
	f.Add(newToken(f).String())
	f.Add("weft1-aaaa")
	f.Fuzz(func(t *testing.T, s string) {
		if tok, err := ParseToken(s); err == nil && tok.String() != strings.ToLower(strings.TrimSpace(s)) {
			t.Errorf("%q was read as another token", s)
		}
	})
}
