package probe

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func secret(b byte) []byte { return bytes.Repeat([]byte{b}, SecretSize) }

func codecOf(t testing.TB, b byte) codec {
	t.Helper()
	c, err := newCodec(secret(b))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPacketSaysWhatItWasGivenAndHasTheSizeThatIsProbed(t *testing.T) {
	c := codecOf(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		m := message{
			kind: rapid.SampledFrom([]kind{kindAsk, kindAnswer}).Draw(t, "kind"),
			from: uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "from")), to: uuid.UUID{2},
			seq: rapid.Uint64().Draw(t, "seq"), size: rapid.IntRange(smallSize, 65535).Draw(t, "size"),
		}
		buf := bytes.Repeat([]byte{0xff}, mostSize)
		packet := c.seal(buf, m)
		if len(packet)+headers != m.size {
			t.Fatalf("%d bytes for a probe of %d", len(packet), m.size)
		}
		damaged := bytes.Clone(packet)
		damaged[rapid.IntRange(0, len(packet)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if m, err := c.open(damaged); err == nil {
			t.Fatalf("a damaged packet says %+v", m)
		}
		if _, err := c.open(bytes.Clone(packet[:len(packet)-1])); err == nil {
			t.Fatal("a shortened packet is taken")
		}
		if got, err := c.open(packet); err != nil || got != m {
			t.Fatalf("%+v, %v; want %+v", got, err, m)
		}
	})
}

func TestPacketOfAnotherMeshIsNoise(t *testing.T) {
	m := message{kindAsk, uuid.UUID{1}, uuid.UUID{2}, 3, smallSize}
	packet := codecOf(t, 1).seal(make([]byte, mostSize), m)
	if bytes.Contains(packet, make([]byte, 8)) {
		t.Errorf("padding is seen in %x", packet)
	}
	if _, err := codecOf(t, 2).open(packet); err == nil {
		t.Error("it is taken")
	}
	if _, err := newCodec(nil); err == nil {
		t.Error("a mesh without a secret is no error")
	}
}

func TestPacketsOfTheSameMessageDiffer(t *testing.T) {
	c, m := codecOf(t, 1), message{kindAsk, uuid.UUID{1}, uuid.UUID{2}, 3, smallSize}
	if bytes.Equal(c.seal(make([]byte, mostSize), m), c.seal(make([]byte, mostSize), m)) {
		t.Error("a nonce is used twice")
	}
}

func TestAnswersAreLimited(t *testing.T) {
	l, given := newLimiter(0), 0
	for i := range 100_000 { // within two seconds
		if l.allows(time.Duration(i) * 20 * time.Microsecond) {
			given++
		}
	}
	if given < 2*answersPerSecond || given > 3*answersPerSecond+1 {
		t.Errorf("%d answers in two seconds; want a bucket and two seconds' worth, %d", given, 3*answersPerSecond)
	}
}

func FuzzOpen(f *testing.F) {
	c := codecOf(f, 1)
	f.Add(c.seal(make([]byte, mostSize), message{kindAsk, uuid.UUID{1}, uuid.UUID{2}, 3, smallSize}), false)
	f.Add([]byte{version}, false)
	// What follows the version and the nonce is sealed for the second kind: so
	// the decoder is reached behind the key, too.
	f.Add(append([]byte{9}, make([]byte, bodySize)...), true)
	f.Fuzz(func(t *testing.T, b []byte, authentic bool) {
		if authentic {
			packet := make([]byte, nonceEnd, nonceEnd+len(b)+16)
			packet[0] = version
			b = c.aead.Seal(packet, packet[1:nonceEnd], b, packet[:1])
		}
		n := len(b)
		m, err := c.open(bytes.Clone(b))
		if err == nil && (!authentic && n < leastSize || m.size != n+headers || m.kind != kindAsk && m.kind != kindAnswer) {
			t.Fatalf("%x says %+v", b, m)
		}
	})
}
