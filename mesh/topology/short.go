package topology

import "github.com/google/uuid"

// MostShort is how many peers a peer names by the beginnings of their ids, beyond
// Most of either kind: where a mesh is nearly cut in two, each peer lacks half of it.
const MostShort = 480

// shortLen is how much of an id that is, in bytes. Of a thousand peers two begin alike
// once in ten thousand meshes; then one link too many counts as broken.
const shortLen = 4

// Shorten is the beginnings of ids, one after the other.
func Shorten(ids []uuid.UUID) []byte {
	var out []byte
	for _, id := range ids {
		out = append(out, id[:shortLen]...)
	}
	return out
}

// Directory finds ids by their beginnings.
type Directory map[[shortLen]byte][]uuid.UUID

// Add makes an id be found.
func (d Directory) Add(id uuid.UUID) {
	key := [shortLen]byte(id[:])
	d[key] = append(d[key], id)
}

// Whole are the ids that were shortened, as far as they are known.
func (d Directory) Whole(short []byte) []uuid.UUID {
	var out []uuid.UUID
	for ; len(short) >= shortLen; short = short[shortLen:] {
		out = append(out, d[[shortLen]byte(short)]...)
	}
	return out
}
