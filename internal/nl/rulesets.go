package nl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"slices"
	"strings"
	"unsafe"

	wire "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Rulesets tells two states of all packet filters of a namespace apart, without
// saying what is in them.
type Rulesets struct {
	NFT    uint32 // the generation of nftables: one more for each transaction
	Legacy uint64 // the older iptables' filter tables, but for their counters; 0 for none
}

// ReadRulesets looks at the calling thread's namespace. It takes a few system
// calls, and makes no table.
func ReadRulesets() (r Rulesets, err error) {
	if r.NFT, err = generation(); err != nil {
		return r, err
	}
	r.Legacy, err = LegacyFilter()
	return r, err
}

// generation is the number of the last transaction of nftables.
func generation() (uint32, error) {
	const getGen, genID = 16, 1 // NFT_MSG_GETGEN, NFTA_GEN_ID
	req := wire.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|getGen, 0)
	req.AddData(&wire.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: unix.NFNETLINK_V0})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for the generation of nftables: %w", err)
	}
	for _, b := range answers {
		if len(b) < wire.SizeofNfgenmsg {
			continue
		}
		attrs, err := wire.ParseRouteAttr(b[wire.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("read the generation of nftables: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type == genID && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, errors.New("the kernel does not say the generation of nftables")
}

// Of the older iptables' socket options (linux/netfilter_ipv4/ip_tables.h), the
// same for IPv6.
const (
	getInfo    = 64 // IPT_SO_GET_INFO
	getEntries = 65 // IPT_SO_GET_ENTRIES
	nameSize   = 32 // XT_TABLE_MAXNAMELEN
	infoSize   = 84 // struct ipt_getinfo, whose last word is the size of the entries
	headerSize = 40 // struct ipt_get_entries before the entries
)

// legacy is one family's older iptables: where it names its tables, the level of
// its socket options, and its struct ipt_entry or ip6t_entry.
type legacy struct {
	names         string
	domain, level int
	entrySize     int
	nextOffset    int
	counters      int // the offset of two words of 8 bytes
}

// The files are of the calling thread: it may be in another namespace than the
// process.
var legacies = []legacy{
	{"/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.IPPROTO_IP, 112, 90, 96},
	{"/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.IPPROTO_IPV6, 168, 142, 152},
}

var seed = maphash.MakeSeed()

// LegacyFilter tells two states of the older iptables' filter tables apart, but
// for their counters; 0 where there is none. The kernel announces no change of them.
func LegacyFilter() (uint64, error) {
	var sum uint64
	for _, l := range legacies {
		one, err := l.filter()
		if err != nil {
			return 0, err
		}
		sum = sum*31 + one
	}
	return sum, nil
}

func (l legacy) filter() (uint64, error) {
	const table = "filter"
	// To ask for a table that is not there would make it.
	names, err := os.ReadFile(l.names)
	if err != nil || !slices.Contains(strings.Fields(string(names)), table) {
		return 0, nil //nolint:nilerr // a kernel without it has no such file
	}
	fail := func(err error) (uint64, error) { return 0, fmt.Errorf("look at iptables' table %s: %w", table, err) }
	s, err := unix.Socket(l.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(s)
	for {
		info := make([]byte, infoSize)
		copy(info[:nameSize], table)
		if err := l.getsockopt(s, getInfo, info); err != nil {
			return fail(err)
		}
		size := binary.NativeEndian.Uint32(info[infoSize-4:])
		entries := make([]byte, headerSize+size)
		copy(entries[:nameSize], table)
		binary.NativeEndian.PutUint32(entries[nameSize:], size)
		err := l.getsockopt(s, getEntries, entries)
		if errors.Is(err, unix.EAGAIN) {
			continue // it has changed in between
		}
		if err != nil {
			return fail(err)
		}
		return maphash.Bytes(seed, l.withoutCounters(entries[headerSize:])) | 1, nil
	}
}

// withoutCounters zeroes what changes by itself in a table's entries.
func (l legacy) withoutCounters(entries []byte) []byte {
	out := bytes.Clone(entries)
	for at := 0; at+l.entrySize <= len(out); {
		clear(out[at+l.counters : at+l.entrySize])
		next := int(binary.NativeEndian.Uint16(out[at+l.nextOffset:]))
		if next < l.entrySize {
			break // not what we know
		}
		at += next
	}
	return out
}

func (l legacy) getsockopt(s, option int, b []byte) error {
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s), uintptr(l.level), uintptr(option),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
