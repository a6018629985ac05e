package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"

	bolt "go.etcd.io/bbolt"
)

// Version of the store's layout, which is kept in its meta bucket. A store of
// an older version is migrated when it is opened, one of a newer is refused.
//
//	1  values as they are given
//	2  each value is followed by a checksum of its bucket, key and bytes
const Version = len(migrations)

// migrations[n] takes a store from version n to n+1. What one of them wrote,
// released wefts have on their disks: an entry is never changed, only added.
var migrations = [...]func(*bolt.Tx) error{
	1: sealValues,
}

const (
	metaBucket = "meta"
	versionKey = "version"
)

// parseVersion reads the version of a store; "" is one that has none yet.
func parseVersion(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is no version of a store", v)
	}
	return n, nil
}

// writeVersion notes the version of a store.
func writeVersion(tx *bolt.Tx, n int) error {
	b, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(versionKey), []byte(strconv.Itoa(n)))
}

// migrate takes a store through a table of migrations, from one version to the
// table's end, in one transaction: all of it or nothing.
func migrate(db *bolt.DB, table []func(*bolt.Tx) error, from int) error {
	if from == len(table) {
		return nil
	}
	return db.Update(func(tx *bolt.Tx) error {
		for n := from; n < len(table); n++ {
			if err := table[n](tx); err != nil {
				return fmt.Errorf("migrate from version %d to %d: %w", n, n+1, err)
			}
		}
		return writeVersion(tx, len(table))
	})
}

// sealValues adds its checksum to every value.
func sealValues(tx *bolt.Tx) error {
	return forEachBucket(tx, func(name string, b *bolt.Bucket) error {
		var old []Write // a bucket must not change under ForEach
		err := b.ForEach(func(k, v []byte) error {
			old = append(old, Write{name, slices.Clone(k), slices.Clone(v)})
			return nil
		})
		for _, w := range old {
			err = errors.Join(err, b.Put(w.Key, seal(w)))
		}
		return err
	})
}

// forEachBucket visits the buckets that callers made.
func forEachBucket(tx *bolt.Tx, visit func(string, *bolt.Bucket) error) error {
	return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		if string(name) == metaBucket {
			return nil
		}
		return visit(string(name), b)
	})
}

// sumSize is the length of the checksum behind a value.
const sumSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum covers the key and the bucket, too: a value under another key is as wrong
// as another value.
func sum(bucket string, key, value []byte) uint32 {
	c := crc32.Update(0, castagnoli, binary.BigEndian.AppendUint32(nil, uint32(len(bucket))))
	c = crc32.Update(c, castagnoli, []byte(bucket))
	c = crc32.Update(c, castagnoli, binary.BigEndian.AppendUint32(nil, uint32(len(key))))
	c = crc32.Update(c, castagnoli, key)
	return crc32.Update(c, castagnoli, value)
}

// seal is a value as it is kept.
func seal(w Write) []byte {
	out := append(make([]byte, 0, len(w.Value)+sumSize), w.Value...)
	return binary.BigEndian.AppendUint32(out, sum(w.Bucket, w.Key, w.Value))
}

// unseal is a copy of a value as it was given.
func unseal(bucket string, key, kept []byte) ([]byte, error) {
	n := len(kept) - sumSize
	if n < 0 || binary.BigEndian.Uint32(kept[n:]) != sum(bucket, key, kept[:n]) {
		return nil, fmt.Errorf("the checksum of %s/%q is wrong", bucket, key)
	}
	return append([]byte{}, kept[:n]...), nil
}
