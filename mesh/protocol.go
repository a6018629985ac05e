package mesh

// ProtocolVersion is what peers speak with each other: hello, records, channels.
// Its history:
//
//	1  first version
//
// A peer understands its own version and the ones next to it, so that a mesh is
// upgraded host by host. What a version adds is therefore a field of a map, a
// channel or a kind of message, which the version before ignores and, where it
// is in a record, passes on as it was signed. What it takes away, it took no
// notice of in the version before already. docs/decisions/0021-clones-and-versions.md
// has the same table, with what each version meant for operators.
const ProtocolVersion = 1

// speaks tells whether this peer and one of another version understand each other.
// Each side decides alike.
func speaks(version int) bool {
	return version >= ProtocolVersion-1 && version <= ProtocolVersion+1
}
