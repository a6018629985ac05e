// Package api is the language spoken over the daemon's control socket: the v1
// JSON types and the client that the command line and the container runtimes'
// plugins share. It holds no behaviour of the daemon; the server lives in
// package daemon.
//
// The schema is additive: fields are added, never renamed or removed, within v1.
package api

import (
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
)

// DefaultSocket is where a daemon listens unless it is told otherwise.
const DefaultSocket = "/run/weft/weft.sock"

// HeaderTimeout carries how long a caller is willing to wait, as a Go duration.
const HeaderTimeout = "Weft-Timeout"

// Paths of the control socket's requests.
const (
	PathStatus      = "/v1/status"
	PathAttachments = "/v1/attachments"
	PathAttach      = "/v1/attach"
	PathDetach      = "/v1/detach"
	PathExpose      = "/v1/expose"
	PathHide        = "/v1/hide"
	PathPublish     = "/v1/publish"
	PathUnpublish   = "/v1/unpublish"
	PathToken       = "/v1/token"
	PathVersion     = "/v1/version"
	PathStop        = "/v1/stop"
	PathReset       = "/v1/reset"
	PathRemove      = "/v1/peers/remove"
	PathPrime       = "/v1/prime"
	PathRotateToken = "/v1/token/rotate"
	PathRotateKeys  = "/v1/keys/rotate"
	PathConnect     = "/v1/connect"
	PathForget      = "/v1/forget"
)

// Status is what `weft status` shows.
type Status struct {
	Version Version       `json:"version"`
	Self    Peer          `json:"self"`
	Mesh    Mesh          `json:"mesh"`
	Peers   []Peer        `json:"peers"`
	IPAM    IPAM          `json:"ipam"`
	Bridge  Bridge        `json:"bridge"`
	Links   []Link        `json:"links"`
	Targets []Target      `json:"targets"`
	Health  []Warning     `json:"health"`
	Exposed []netip.Addr  `json:"exposed"`
	Refused []Refusal     `json:"refused"`
	Gossip  Gossip        `json:"gossip"`
	Attach  AttachSummary `json:"attachments"`
	Started time.Time     `json:"started"`
}

// Degraded tells whether any warning says that something does not work.
func (s Status) Degraded() bool {
	for _, w := range s.Health {
		if w.Severity == SeverityError {
			return true
		}
	}
	return false
}

// Codes of warnings that say what the daemon cannot do.
const (
	WarnKernel = "kernel-not-set"
	WarnStore  = "store-not-written"
	WarnPlan   = "plan-not-kept"
	WarnLoop   = "loop-stuck"
)

// Unready are the warnings that keep containers from being attached on this host.
// Other hosts' trouble is none of them.
func (s Status) Unready() []Warning { return s.with(WarnKernel, WarnStore, WarnPlan, WarnLoop) }

// Dead are the warnings that only another start of the daemon ends.
func (s Status) Dead() []Warning { return s.with(WarnLoop) }

func (s Status) with(codes ...string) []Warning {
	out := []Warning{}
	for _, w := range s.Health {
		if slices.Contains(codes, w.Code) {
			out = append(out, w)
		}
	}
	return out
}

// Mesh says which mesh this is.
type Mesh struct {
	ID uuid.UUID `json:"id"`
	// GossipEncrypted and TrafficEncrypted say what a stranger on the
	// underlay can read.
	GossipEncrypted  bool `json:"gossipEncrypted"`
	TrafficEncrypted bool `json:"trafficEncrypted"`
	// Encap is what the mesh was founded with: "auto", "wireguard", "vxlan" or
	// "direct".
	Encap string `json:"encap"`
	// Userspace tells that packets between hosts pass through a process, since
	// this host's kernel does not have the transport.
	Userspace bool `json:"userspace,omitempty"`
	// Processes are those that they pass through, one for each device.
	Processes []Process `json:"processes,omitempty"`
	VNI       uint32    `json:"vni,omitempty"`
	// Keys are this host's of WireGuard; nil where it does none.
	Keys *Keys `json:"keys,omitempty"`
}

// Keys is how far this host is with the keys of WireGuard.
type Keys struct {
	// Epoch is how often the keys of the mesh have been changed, as far as this
	// host has followed.
	Epoch uint64    `json:"epoch"`
	Since time.Time `json:"since"` // when this host made the newest
	// Changing tells that it has the one before still.
	Changing bool `json:"changing,omitempty"`
	// WaitingFor are the hosts, by name, that need that, and why.
	WaitingFor []string `json:"waitingFor,omitempty"`
}

// PublicKey is what a peer tells the others of one of its keys of WireGuard.
type PublicKey struct {
	Epoch uint64 `json:"epoch"`
	Port  uint16 `json:"port,omitempty"` // UDP; 0 for the mesh's
	Key   string `json:"key"`
}

// KeysReport is what became of a change of keys.
type KeysReport struct {
	Epoch uint64 `json:"epoch"`
	// Away are the hosts that did not answer: they follow when they do.
	Away []string `json:"away,omitempty"`
}

// Process carries the packets of a device. It goes on while the daemon is
// stopped, and is replaced when a daemon of another build is launched.
type Process struct {
	Device   string `json:"device"`
	PID      int    `json:"pid"`                // 0 in another container than the daemon
	Software string `json:"software,omitempty"` // version; "" if it does not say
}

// Peer is one member of the mesh as this host sees it.
type Peer struct {
	ID       uuid.UUID        `json:"id"`
	Name     string           `json:"name"`
	Self     bool             `json:"self,omitempty"`
	State    string           `json:"state"` // alive, failed, departed, or removed and silent
	Gossip   []netip.AddrPort `json:"gossip"`
	Underlay []netip.Addr     `json:"underlay"`
	Gateway  netip.Addr       `json:"gateway,omitzero"`
	Prefixes []netip.Prefix   `json:"prefixes"`
	Keys     []PublicKey      `json:"keys,omitempty"` // of WireGuard, two while they are changed
	Version  uint64           `json:"recordVersion"`
	Software string           `json:"software"`
	Since    time.Time        `json:"since,omitzero"`
	// Confined tells that others cannot connect to it: it is behind NAT or a
	// firewall, and dials out.
	Confined bool `json:"confined,omitempty"`
	// Seen is where others hear its tunnels, where NAT makes that another place than
	// Underlay.
	Seen []netip.AddrPort `json:"seen,omitempty"`
	// Way is how this host's gossip gets to it: "direct", by a "line" that it keeps
	// open, or through the "overlay"; absent while there was nothing to say.
	Way string `json:"way,omitempty"`
	// Broken are the peers that none of its own links leads to, and Mute those that
	// it was relayed by and that do not answer it, as it says itself. Leaf tells that
	// it relays nothing.
	Broken []PeerName `json:"broken,omitempty"`
	Mute   []PeerName `json:"mute,omitempty"`
	Leaf   bool       `json:"leaf,omitempty"`
}

// IsOut tells that a peer has left or was removed: it is no part of the mesh.
func (p Peer) IsOut() bool { return p.State == "departed" || p.State == "removed" }

// PeerName names a peer: with the beginning of its id where others have its name.
type PeerName struct {
	ID   uuid.UUID `json:"id"`
	Name string    `json:"name"`
}

// Gossip counts what this host's daemon refused of what others told it, by
// reason, and what was lost, since it was launched.
type Gossip struct {
	// RecordsRefused are records of peers: oversized, malformed, bad-signature,
	// foreign-mesh, version (of the protocol, too far from this host's), too-many,
	// and outdated, which late packets are as well as replayed ones.
	RecordsRefused map[string]uint64 `json:"recordsRefused,omitempty"`
	// MessagesRefused are whole messages: malformed, bad-signature, version; and
	// untimely, of or for a peer that is not known here, as it happens.
	MessagesRefused map[string]uint64 `json:"messagesRefused,omitempty"`
	LastRefused     time.Time         `json:"lastRefused,omitzero"` // but for outdated and untimely
	// Dropped found a full queue, and Unsent could not be given to their peer; what
	// they said comes another way.
	Dropped uint64 `json:"dropped"`
	Unsent  uint64 `json:"unsent"`
	// Spreading is how many pieces of news wait at present to be gossiped on.
	Spreading int `json:"spreading"`
}

// Report is everything that a daemon can say of itself, for one who looks into
// what is wrong. There is no secret in it.
type Report struct {
	Taken       time.Time    `json:"taken"`
	Status      Status       `json:"status"`
	Attachments []Attachment `json:"attachments"`
	Graph       string       `json:"graph"` // the topology, for graphviz
}

// IPAM is the address plan as this host sees it.
type IPAM struct {
	Range netip.Prefix `json:"range"`
	// IPv6 is the prefix that goes with Range; absent in a mesh without IPv6.
	IPv6      netip.Prefix `json:"ipv6,omitzero"`
	BlockBits int          `json:"blockBits"`
	Blocks    int          `json:"blocks"`
	Unowned   int          `json:"unownedBlocks"`
	Shares    []Share      `json:"shares"`
	// Used counts the addresses that this host uses.
	Used int `json:"used"`
	// Free counts the addresses that this host can give without asking.
	Free int `json:"free"`
	// Member: this host has been let into the address plan.
	Member bool `json:"member"`
	// Decision is the index of the council's last decision; 0 while none is known.
	Decision uint64 `json:"decision"`
	// Forced counts how often the mesh went on without a majority.
	Forced uint64   `json:"forced"`
	Voters []string `json:"voters"`
	// Leader is the voter that leads, where this host knows: on voters.
	Leader   string    `json:"leader,omitempty"`
	LeaderID uuid.UUID `json:"leaderId,omitzero"`
	// Pending are removed hosts whose addresses nobody has got yet.
	Pending []string `json:"pending"`
	// WaitingFor are those who have not confirmed; only the leader knows.
	WaitingFor []string `json:"waitingFor"`
	// LeasesIn and LeasesOut count single addresses of others in use here, and
	// of this host's in use elsewhere.
	LeasesIn  int `json:"leasesIn"`
	LeasesOut int `json:"leasesOut"`
	// Quarantined is owned by this host, and not used: who gave it had no right to.
	Quarantined []netip.Prefix `json:"quarantined,omitempty"`
	// CutOff are addresses that containers here may not use for now.
	CutOff []CutOff `json:"cutOff"`
	// Subnets of the whole mesh, which do not reach each other.
	Subnets []netip.Prefix `json:"subnets"`
}

// CutOff is an address that its container may not use.
type CutOff struct {
	Address netip.Addr `json:"address"`
	Owner   string     `json:"owner"`
	// Reason is what the host says that owns the address; "" while it has not
	// answered.
	Reason string `json:"reason,omitempty"`
}

// Share is the part of the range that one peer holds.
type Share struct {
	ID        uuid.UUID      `json:"id"`
	Name      string         `json:"name"`
	Blocks    int            `json:"blocks"`
	Addresses int            `json:"addresses"`
	Used      *int           `json:"used,omitempty"` // as far as is known
	Prefixes  []netip.Prefix `json:"prefixes"`
	Voter     bool           `json:"voter"`
	// Removed: it was shut out, and what it had is not inherited yet.
	Removed bool `json:"removed,omitempty"`
}

// Bridge is the host's side of the containers' network.
type Bridge struct {
	Name    string       `json:"name"`
	Gateway netip.Prefix `json:"gateway"`
	MAC     string       `json:"mac"`
	MTU     int          `json:"mtu"`
	// Spoofed counts the packets that containers of this host sent by addresses
	// that are not theirs; they were dropped.
	Spoofed uint64 `json:"spoofed"`
	// IPv6 is the address that goes with Gateway; absent where IPv6 is off.
	IPv6 netip.Addr `json:"ipv6,omitzero"`
	// IPv6Off says why this host has no IPv6 on the network; "" if it has.
	IPv6Off string `json:"ipv6Off,omitempty"`
}

// Link is the way to one other peer.
type Link struct {
	Peer      uuid.UUID `json:"peer"`
	Name      string    `json:"name"`
	Transport string    `json:"transport"`
	// TransportIPv6 carries what is sent in IPv6; "" for the same.
	TransportIPv6 string     `json:"transportIPv6,omitempty"`
	Underlay      netip.Addr `json:"underlay"`
	Device        string     `json:"device"`
	MTU           int        `json:"mtu"`
	Encrypted     bool       `json:"encrypted"`
	// Reason says why there is no usable link; "" if there is one.
	Reason string `json:"reason,omitempty"`
	// Why says why it is this transport, and Changed when it became it.
	Why     string    `json:"why,omitempty"`
	Changed time.Time `json:"changed,omitzero"`
	// Transports are all of them, fastest first, and whether this link may use them.
	Transports []Verdict `json:"transports,omitempty"`
	// Proven tells that a probe over this path was answered, Answers that they are
	// now; RTT is in nanoseconds, Loss from 0 to 1, of the last of them.
	Proven  bool          `json:"proven"`
	Answers bool          `json:"answers"`
	Probes  int           `json:"probes"`
	RTT     time.Duration `json:"rtt,omitempty"`
	Loss    float64       `json:"loss"`
	// Heard is where WireGuard hears the other end, if it does.
	Heard netip.AddrPort `json:"heard,omitzero"`
	// Via are the peers that relay, in order, where the direct link does not work,
	// and ViaRTT how long the way there and back takes, as estimated. Transport,
	// Device, MTU and Encrypted are then those of the link to the first of them, and
	// the probes go on to be those of the direct link.
	Via    []PeerName    `json:"via,omitempty"`
	ViaRTT time.Duration `json:"viaRTT,omitempty"`
	// Broken says why the direct link is not used; "" if it is as it should be.
	Broken string `json:"broken,omitempty"`
	// KeyEpoch is that of the key that encrypts it; nil where none does.
	KeyEpoch *uint64 `json:"keyEpoch,omitempty"`
	// Received and Sent count bytes: what WireGuard has carried, with its headers,
	// and the packets that went in the clear. They begin anew with WireGuard's key,
	// and where its process is replaced.
	Received *int64 `json:"received,omitempty"`
	Sent     *int64 `json:"sent,omitempty"`
}

// Verdict says of a transport whether a link may use it, and why.
type Verdict struct {
	Transport string `json:"transport"`
	Allowed   bool   `json:"allowed"`
	Why       string `json:"why"`
}

// ConnectRequest adds hosts to join, or takes them away.
type ConnectRequest struct {
	Targets []string `json:"targets"`
	// Replace makes them the only ones.
	Replace bool `json:"replace,omitempty"`
}

// Target is a host, or a list of hosts, that this one was told to join.
type Target struct {
	Target string `json:"target"` // as it was given
	// Addresses are those that it leads to, each with a port.
	Addresses []string `json:"addresses"`
	// Connected is true if a peer at one of them is here.
	Connected bool `json:"connected"`
	// Peers are those at its addresses that are here.
	Peers     []PeerName `json:"peers,omitempty"`
	LastError string     `json:"lastError,omitempty"`
	NextTry   time.Time  `json:"nextTry,omitzero"`
}

// Refusal is a host that was refused entry to the mesh.
type Refusal struct {
	From   string    `json:"from"`
	Code   string    `json:"code"`
	Reason string    `json:"reason"`
	Last   time.Time `json:"last"`
	Count  int       `json:"count"`
}

// AttachSummary counts the containers on this host.
type AttachSummary struct {
	Attached int `json:"attached"`
	Gone     int `json:"gone"`
}

// Severities of a Warning.
const (
	SeverityError   = "error"   // something does not work
	SeverityWarning = "warning" // it works, and the user should know
)

// Warning is one coded statement about the daemon's health.
type Warning struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Text     string `json:"text"`
	Fix      string `json:"fix"`
}

// Token is the secret with which another host joins, and the line to do it.
type Token struct {
	Token string `json:"token"`
	Join  string `json:"join"`
}

// Version of a program and of the protocol that it speaks with its peers.
type Version struct {
	Software string `json:"software"`
	Protocol int    `json:"protocol"`
	Go       string `json:"go"`
}

// StopRequest asks the daemon to end.
type StopRequest struct {
	// All ends the processes that carry traffic without it, too.
	All bool `json:"all,omitempty"`
	// StandBy asks only a daemon that was launched to be replaced. It lets go of
	// the host and waits for its turn again, in case the other fails.
	StandBy bool `json:"standBy,omitempty"`
}

// ResetRequest asks the daemon to remove every trace of weft from its host.
type ResetRequest struct {
	// Force goes on where no peer can be found to take over this host's
	// address space.
	Force bool `json:"force,omitempty"`
}

// RemoveRequest asks for hosts to be shut out of the mesh for good.
type RemoveRequest struct {
	Peers []string `json:"peers"` // names or ids
	// Force goes on without a majority of the voters, who are gone for good.
	Force bool `json:"force,omitempty"`
	// Revoke keeps them out: the mesh gets a new token that they are not told.
	Revoke bool `json:"revoke,omitempty"`
}

// RotateRequest asks for a new token of the mesh.
type RotateRequest struct {
	// Without are peers, by name or id, that the new token is kept from, and who
	// are out of the mesh by it.
	Without []string `json:"without,omitempty"`
}

// RotateReport is the new token, and who has to be given it by hand.
type RotateReport struct {
	Token
	// Away are the hosts that did not answer while it was changed.
	Away []string `json:"away,omitempty"`
	// Out are those that it was kept from.
	Out []string `json:"out,omitempty"`
}

// RemoveReport says who was removed.
type RemoveReport struct {
	Removed []string `json:"removed"`
	// Rotated is what became of the token; only with Revoke.
	Rotated *RotateReport `json:"rotated,omitempty"`
	// Kept are those who go on together; only with Force.
	Kept []string `json:"kept,omitempty"`
}

// ResetReport says what a reset did.
type ResetReport struct {
	// HandedTo names the peer that took over the address space; "" if none.
	HandedTo string   `json:"handedTo,omitempty"`
	Removed  []string `json:"removed"`
	// Left lists what could not be removed and why.
	Left []string `json:"left,omitempty"`
}
