package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
)

// bbolt believes what it finds in its file: a damaged page makes it panic, run
// past the end of the mapping, recurse for ever or answer wrongly, and not all
// of that can be caught. So a file is examined before bbolt sees it, with plain
// reads, by the layout below (little but stable: bbolt's version 2, host order).
//
//	page     id uint64, flags uint16, count uint16, overflow uint32; then its elements
//	meta     magic, version, pageSize, flags uint32; root, sequence, freelist, pgid, txid, checksum uint64
//	branch   pos, ksize uint32, pgid uint64; pos counts from the element's own start
//	leaf     flags, pos, ksize, vsize uint32
//	bucket   a leaf's value: root, sequence uint64; if root is 0, its only page follows
//	freelist uint64 each; if count is 0xffff, the first is the number of the others
const (
	pageHeader    = 16
	metaSize      = 64
	elementSize   = 16
	bucketHeader  = 16
	flagBranch    = 0x01
	flagLeaf      = 0x02
	flagMeta      = 0x04
	flagFreelist  = 0x10
	flagBucket    = 0x01
	boltMagic     = 0xED0CDAED
	boltVersion   = 2
	noFreelist    = math.MaxUint64
	manyFree      = 0xffff
	smallestPage  = 1024
	largestPage   = 1024 << 14 // the range in which bbolt looks for the second meta page
	deepestBranch = 32         // far more than any tree has whose pages have two children
)

var order = binary.NativeEndian

// examiner walks over a file once.
type examiner struct {
	file     io.ReaderAt
	found    func(bucket string, key, kept []byte) // is shown each value
	pageSize uint64
	pages    uint64          // the high-water mark: pages from here on were never used
	seen     map[uint64]bool // pages reached
	version  string
	buckets  int // but for the meta bucket
}

// examine finds out whether a file of that size is a sound store, and of which
// version.
func examine(file io.ReaderAt, size int64) (version int, err error) {
	var wrong error
	version, err = walk(file, size, func(bucket string, key, kept []byte) {
		if _, err := unseal(bucket, key, kept); wrong == nil {
			wrong = err
		}
	})
	if err == nil && version == Version {
		err = wrong
	}
	return version, err
}

// walk visits all values of a file, as they are kept. The first wefts made an
// empty store before they gave it a version.
func walk(file io.ReaderAt, size int64, found func(bucket string, key, kept []byte)) (version int, err error) {
	e := &examiner{file: file, found: found, seen: map[uint64]bool{}}
	root, free, err := e.metas(size)
	if err != nil {
		return 0, err
	}
	if err := e.tree(root, nil, nil, 0, e.rootElement); err != nil {
		return 0, err
	}
	if free != noFreelist {
		if err := e.freelist(free); err != nil {
			return 0, err
		}
	}
	switch {
	case e.version == "" && e.buckets > 0:
		return 0, errors.New("its version is missing")
	case e.version == "":
		return 1, nil
	}
	return parseVersion(e.version)
}

// readMeta reads a meta page; nil is one whose checksum is wrong.
func (e *examiner) readMeta(at int64) (pageSize int64, m []byte) {
	var b [pageHeader + metaSize]byte
	if _, err := e.file.ReadAt(b[:], at); err != nil {
		return 0, nil
	}
	m = b[pageHeader:]
	h := fnv.New64a()
	h.Write(m[:metaSize-8])
	if order.Uint32(m) != boltMagic || order.Uint32(m[4:]) != boltVersion || order.Uint64(m[56:]) != h.Sum64() {
		return 0, nil
	}
	pageSize = int64(order.Uint32(m[8:]))
	if order.Uint64(b[:]) != uint64(min(at, 1)) || order.Uint16(b[8:]) != flagMeta {
		pageSize = -1
	}
	return pageSize, m
}

// metas reads the two meta pages, of which the newer valid one counts: the
// other is the state before, or was being written when the power failed.
func (e *examiner) metas(size int64) (root, free uint64, err error) {
	pageSize, m := e.readMeta(0)
	if m != nil {
		same, other := e.readMeta(pageSize)
		if other != nil && same != pageSize {
			return 0, 0, errors.New("its meta pages contradict each other")
		}
		if other != nil && order.Uint64(other[48:]) > order.Uint64(m[48:]) {
			m = other
		}
	} else {
		for at := int64(smallestPage); at <= largestPage && m == nil; at *= 2 {
			if pageSize, m = e.readMeta(at); pageSize != at {
				m = nil
			}
		}
	}
	switch {
	case size == 0:
		return 0, 0, errors.New("it is empty")
	case m == nil:
		return 0, 0, errors.New("neither of its meta pages is valid")
	case pageSize < smallestPage || pageSize > largestPage || pageSize&(pageSize-1) != 0:
		return 0, 0, fmt.Errorf("its pages have %d bytes", pageSize)
	}
	e.pageSize, e.pages = uint64(pageSize), order.Uint64(m[40:])
	if have := uint64(size) / e.pageSize; e.pages > have || e.pages < 4 {
		return 0, 0, fmt.Errorf("it has %d pages of %d", have, e.pages)
	}
	return order.Uint64(m[16:]), order.Uint64(m[32:]), nil
}

// page reads a page with all that belongs to it. Each is in one place only.
func (e *examiner) page(id uint64) ([]byte, error) {
	if id < 2 || id >= e.pages {
		return nil, fmt.Errorf("page %d is not among its %d", id, e.pages)
	}
	var head [pageHeader]byte
	if _, err := e.file.ReadAt(head[:], int64(id*e.pageSize)); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	n := uint64(order.Uint32(head[12:])) + 1
	if order.Uint64(head[:]) != id || id+n > e.pages {
		return nil, fmt.Errorf("page %d has a wrong header", id)
	}
	for i := id; i < id+n; i++ {
		if e.seen[i] {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		e.seen[i] = true
	}
	p := make([]byte, n*e.pageSize)
	if _, err := e.file.ReadAt(p, int64(id*e.pageSize)); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return p, nil
}

// visitor is shown each element of a tree's leaves.
type visitor func(flags uint32, key, value []byte) error

// tree examines a bucket's pages from one down. Its keys are at least low and
// below high, where these are not nil.
func (e *examiner) tree(id uint64, low, high []byte, depth int, visit visitor) error {
	p, err := e.page(id)
	if err != nil {
		return err
	}
	els, _, err := elements(p, low, high)
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	if !els.branch {
		if len(els.list) == 0 && depth > 0 {
			return fmt.Errorf("page %d is empty", id)
		}
		return els.each(visit)
	}
	if len(els.list) == 0 || depth == deepestBranch {
		return fmt.Errorf("page %d branches into nothing", id)
	}
	for i, el := range els.list {
		below := high
		if i+1 < len(els.list) {
			below = els.list[i+1].key
		}
		if err := e.tree(el.child, el.key, below, depth+1, visit); err != nil {
			return err
		}
	}
	return nil
}

// rootElement examines a bucket.
func (e *examiner) rootElement(flags uint32, key, value []byte) error {
	if flags != flagBucket || len(value) < bucketHeader {
		return fmt.Errorf("%q is no bucket", key)
	}
	name := string(key)
	if name != metaBucket {
		e.buckets++
	}
	visit := func(flags uint32, key, value []byte) error {
		switch {
		case flags != 0:
			return fmt.Errorf("%s/%q is no value", name, key)
		case name != metaBucket:
			e.found(name, key, value)
		case string(key) == versionKey:
			e.version = string(value)
		}
		return nil
	}
	root := order.Uint64(value)
	if root != 0 {
		if len(value) != bucketHeader {
			return fmt.Errorf("bucket %q has bytes to spare", key)
		}
		return e.tree(root, nil, nil, 0, visit)
	}
	els, used, err := elements(value[bucketHeader:], nil, nil)
	if err == nil && (els.branch || used != len(value)-bucketHeader) {
		err = errors.New("its only page is wrong")
	}
	if err != nil {
		return fmt.Errorf("bucket %q: %w", key, err)
	}
	return els.each(visit)
}

// freelist examines the list of pages that can be used again, after all trees.
// None of them is in use, or the next commit would overwrite what is to be kept;
// and all others are, or a part of a tree is missing.
func (e *examiner) freelist(id uint64) error {
	p, err := e.page(id)
	if err != nil {
		return err
	}
	count, list := uint64(order.Uint16(p[10:])), p[pageHeader:]
	if order.Uint16(p[8:]) != flagFreelist {
		return fmt.Errorf("page %d is no list of free pages", id)
	}
	if count == manyFree {
		count, list = order.Uint64(list), list[8:]
	}
	if count > uint64(len(list)/8) {
		return fmt.Errorf("page %d lists %d free pages", id, count)
	}
	for i := range count {
		free := order.Uint64(list[8*i:])
		if free < 2 || free >= e.pages || e.seen[free] {
			return fmt.Errorf("page %d is in use and listed as free", free)
		}
		e.seen[free] = true
	}
	if lost := e.pages - 2 - uint64(len(e.seen)); lost > 0 {
		return fmt.Errorf("%d of its pages are neither in use nor free", lost)
	}
	return nil
}

// element of a branch or a leaf.
type element struct {
	flags      uint32
	child      uint64
	key, value []byte
}

type elementList struct {
	branch bool
	list   []element
}

func (l elementList) each(visit visitor) error {
	for _, el := range l.list {
		if err := visit(el.flags, el.key, el.value); err != nil {
			return err
		}
	}
	return nil
}

// elements reads those of a page, and how many of its bytes it has written.
// bbolt writes the elements, then their keys and values in the same order
// without a gap; so a wrong count or length shows.
func elements(p []byte, low, high []byte) (l elementList, used int, err error) {
	if len(p) < pageHeader {
		return l, 0, errors.New("it is cut off")
	}
	flags, count := order.Uint16(p[8:]), int(order.Uint16(p[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return l, 0, fmt.Errorf("it is neither branch nor leaf (%#x)", flags)
	}
	l.branch = flags == flagBranch
	next := pageHeader + count*elementSize // where the next key is
	if next > len(p) {
		return l, 0, fmt.Errorf("%d elements are too many", count)
	}
	if count == 0 && len(bytes.Trim(p[pageHeader:], "\x00")) > 0 {
		return l, 0, errors.New("its elements are missing")
	}
	for i := range count {
		start := pageHeader + i*elementSize
		b := p[start:]
		var el element
		pos, ksize, vsize := order.Uint32(b[4:]), order.Uint32(b[8:]), order.Uint32(b[12:])
		if l.branch {
			pos, ksize, vsize = order.Uint32(b), order.Uint32(b[4:]), 0
			el.child = order.Uint64(b[8:])
		} else {
			el.flags = order.Uint32(b)
		}
		if uint64(start)+uint64(pos) != uint64(next) || uint64(next)+uint64(ksize)+uint64(vsize) > uint64(len(p)) || ksize == 0 {
			return l, 0, fmt.Errorf("element %d is not where it should be", i)
		}
		el.key = p[next : next+int(ksize)]
		el.value = p[next+int(ksize) : next+int(ksize)+int(vsize)]
		next += int(ksize) + int(vsize)
		if i == 0 && bytes.Compare(el.key, low) < 0 || i > 0 && bytes.Compare(el.key, l.list[i-1].key) <= 0 ||
			high != nil && bytes.Compare(el.key, high) >= 0 {
			return l, 0, fmt.Errorf("key %d is out of order", i)
		}
		l.list = append(l.list, el)
	}
	return l, next, nil
}
