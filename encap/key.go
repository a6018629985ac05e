package encap

import (
	"encoding/base64"
	"fmt"
	"io"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// PrivateKey is a host's key of WireGuard (X25519). Formatting does not give it
// away.
type PrivateKey [32]byte

// PublicKey is what the other hosts know of a PrivateKey. The zero value is none.
type PublicKey [32]byte

// NewPrivateKey makes a key.
func NewPrivateKey() (PrivateKey, error) {
	k, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		return PrivateKey{}, fmt.Errorf("make WireGuard key: %w", err)
	}
	return PrivateKey(k), nil
}

// Public is the key for the others.
func (k PrivateKey) Public() PublicKey { return PublicKey(wgtypes.Key(k).PublicKey()) }

// Format keeps the key out of whatever prints it, or a struct that has it.
func (k PrivateKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "private key") }

// String is the form that wg(8) shows.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }
