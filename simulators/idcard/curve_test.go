package idcard

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/pem"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestCurvesAgainstStandardLibrary(t *testing.T) {
	for id, curve := range map[Domain]ecdh.Curve{P256: ecdh.P256(), P384: ecdh.P384(), P521: ecdh.P521()} {
		g, err := id.group()
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			ours, _ := g.scalar(rand.Reader)
			theirs, err := curve.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			key, err := curve.NewPrivateKey(g.field(ours))
			if err != nil || !bytes.Equal(key.PublicKey().Bytes(), g.encode(g.mul(ours, g.g))) {
				t.Fatalf("domain %d: public keys differ (%v)", id, err)
			}
			p, ok := g.decode(theirs.PublicKey().Bytes())
			want, err := key.ECDH(theirs.PublicKey())
			if err != nil || !ok || !bytes.Equal(want, g.field(g.mul(ours, p).x)) {
				t.Fatalf("domain %d: shared secrets differ (%v)", id, err)
			}
		}
	}
}

// A coordinate that begins with a zero byte keeps it: one exchange in 256 fails otherwise.
func TestLeadingZeroBytes(t *testing.T) {
	g, _ := P256.group()
	found := 0
	for k := int64(1); k < 2000; k++ {
		p := g.mul(big.NewInt(k), g.g)
		if p.x.BitLen() > 248 && p.y.BitLen() > 248 {
			continue
		}
		found++
		q, ok := g.decode(g.encode(p))
		if !ok || q.x.Cmp(p.x) != 0 || q.y.Cmp(p.y) != 0 || len(g.field(p.x)) != 32 {
			t.Fatalf("%d·G does not survive its encoding", k)
		}
	}
	if found == 0 {
		t.Fatal("no point of the kind was met")
	}
}

func TestGroupLaw(t *testing.T) {
	for _, id := range slices.Collect(maps.Keys(curves)) {
		g, _ := id.group()
		if g.mul(g.n, g.g).x != nil {
			t.Errorf("domain %d: n·G is not the point at infinity", id)
		}
		minus := point{g.g.x, new(big.Int).Sub(g.p, g.g.y)}
		if g.add(g.g, minus).x != nil {
			t.Errorf("domain %d: G - G is not the point at infinity", id)
		}
		double, two := g.add(g.g, g.g), g.mul(big.NewInt(2), g.g)
		if double.x.Cmp(two.x) != 0 || double.y.Cmp(two.y) != 0 {
			t.Errorf("domain %d: G + G is not 2·G", id)
		}
	}
}

// The parameters are openssl's, and so are the points that it computes with them.
func TestDomainsAgainstOpenssl(t *testing.T) {
	for _, d := range domains() {
		g, _ := d.group()
		der, err := openssl(t, "ecparam", "-name", opensslNames[d], "-param_enc", "explicit", "-outform", "DER")
		if err != nil {
			t.Fatalf("openssl ecparam: %v\n%s", err, der)
		}
		for name, b := range map[string][]byte{
			"p": g.p.Bytes(), "a": g.a.Bytes(), "b": g.b.Bytes(), "n": g.n.Bytes(), "G": g.encode(g.g),
		} {
			if !strings.Contains(der, string(b)) {
				t.Errorf("domain %d: openssl has another %s", d, name)
			}
		}
		private, public, _ := opensslKey(t, d)
		if !bytes.Equal(g.encode(g.mul(private, g.g)), public) {
			t.Errorf("domain %d: openssl computes another point", d)
		}
	}
	for d, name := range map[Domain]string{DH1024_160: "1", DH2048_224: "2", DH2048_256: "3"} {
		f, _ := d.finiteField()
		out, err := openssl(t, "genpkey", "-genparam", "-algorithm", "DHX", "-pkeyopt", "dh_rfc5114:"+name)
		if err != nil {
			t.Fatalf("openssl genpkey: %v\n%s", err, out)
		}
		block, _ := pem.Decode([]byte(out))
		if want := bytes.Join([][]byte{integer(f.p), integer(f.g), integer(f.q)}, nil); block == nil || !bytes.Contains(block.Bytes, want) {
			t.Errorf("domain %d: openssl has other numbers", d)
		}
		if !f.neutral(f.mul(f.q, f.base())) {
			t.Errorf("domain %d: the generator has another order", d)
		}
	}
}

func BenchmarkMul(b *testing.B) {
	for _, d := range []Domain{P256, BrainpoolP384r1, P521} {
		g, _ := d.group()
		k, _ := g.scalar(rand.Reader)
		b.Run(strconv.Itoa(int(d)), func(b *testing.B) {
			for b.Loop() {
				g.mul(k, g.g)
			}
		})
	}
}
