package mesh

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/google/uuid"
)

// Identity is what makes a peer the same one after a restart. The id follows
// from the key, so that a record can be checked against its id by anybody.
type Identity struct {
	ID  uuid.UUID
	Key ed25519.PrivateKey
}

// NewIdentity makes a random identity.
func NewIdentity() (Identity, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make identity: %w", err)
	}
	return Identity{IDOf(pub), key}, nil
}

// IDOf is the peer id that belongs to a public key: a UUID of version 8
// (RFC 9562) from the key's SHA-256.
func IDOf(pub ed25519.PublicKey) uuid.UUID {
	sum := sha256.Sum256(append([]byte("weft peer id\x00"), pub...))
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// MarshalBinary is the identity for the store: the key's seed.
func (i Identity) MarshalBinary() ([]byte, error) { return i.Key.Seed(), nil }

// UnmarshalBinary reads what MarshalBinary wrote.
func (i *Identity) UnmarshalBinary(seed []byte) error {
	if len(seed) != ed25519.SeedSize {
		return fmt.Errorf("identity of %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	i.Key = ed25519.NewKeyFromSeed(seed)
	i.ID = IDOf(i.Key.Public().(ed25519.PublicKey))
	return nil
}
