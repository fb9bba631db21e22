package idcard

import (
	"bytes"
	"crypto"
	"slices"
	"testing"
)

// Every deviation of the SOD that TR-03105 part 5.1 lists (LDS_H_17 to LDS_H_93)
// is one edit. Those made before signing leave a signature that holds.
func TestEverySODDeviationIsAnEdit(t *testing.T) {
	const (
		md5          = "1.2.840.113549.2.5"
		sha256       = "2.16.840.1.101.3.4.2.1"
		digest       = "1.2.840.113549.1.9.4"
		usage        = "2.5.29.15"
		authorityKey = "2.5.29.35"
	)
	sod := func(e Edit) (AuthorityOptions, Options) {
		return AuthorityOptions{}, Options{SOD: SignedObject{Edit: e}}
	}
	content := func(e Edit) (AuthorityOptions, Options) {
		return AuthorityOptions{}, Options{SOD: SignedObject{EditContent: e}}
	}
	attributes := func(e Edit) (AuthorityOptions, Options) {
		return AuthorityOptions{}, Options{SOD: SignedObject{EditAttributes: e}}
	}
	tbs := func(e Edit) (AuthorityOptions, Options) { return AuthorityOptions{EditSignerTBS: e}, Options{} }
	cert := func(e Edit) (AuthorityOptions, Options) { return AuthorityOptions{EditSigner: e}, Options{} }
	file := func(e Edit) (AuthorityOptions, Options) {
		return AuthorityOptions{}, Options{EditFile: func(id uint16, b []byte) []byte {
			if id == efSOD {
				return EditBytes(e)(b)
			}
			return b
		}}
	}
	remove := func(find func(*Node) *Node) Edit { return func(n *Node) { n.Remove(find(n)) } }
	child := func(i int) func(*Node) *Node { return func(n *Node) *Node { return n.Children[i] } }
	info := SignerInfoIn
	flip := func(n *Node) { n.Value[len(n.Value)-1] ^= 1 }
	hash := func(n *Node, number byte) *Node { // of a data group, in the security object
		list := n.Children[2]
		i := slices.IndexFunc(list.Children, func(h *Node) bool { return h.Children[0].Value[0] == number })
		return list.Children[i]
	}
	both := func(s Scheme) AuthorityOptions { return AuthorityOptions{CSCA: s, Signer: s} }

	type deviation struct {
		holds bool // the signature over the signed attributes
		set   func() (AuthorityOptions, Options)
	}
	var written []byte // what the edit made of its structure
	as := func(f func(Edit) (AuthorityOptions, Options), e Edit) func() (AuthorityOptions, Options) {
		return func() (AuthorityOptions, Options) {
			return f(func(n *Node) {
				before := n.Encode()
				if e(n); bytes.Equal(before, n.Encode()) {
					t.Error("the edit changed nothing")
				}
				written = n.Encode()
			})
		}
	}
	opts := func(o Options) func() (AuthorityOptions, Options) {
		return func() (AuthorityOptions, Options) { return AuthorityOptions{}, o }
	}
	for id, d := range map[string]deviation{
		"17": {true, as(file, func(n *Node) { n.Tag = 0x78 })},
		"18": {true, as(file, func(n *Node) { n.Claim = -1 })},
		"19": {true, as(file, func(n *Node) { n.Claim = +1 })},
		"20": {true, as(sod, func(n *Node) { SignedDataIn(n).Children[0].SetInt(9) })},
		"21": {true, as(sod, func(n *Node) { n.Remove(SignedDataIn(n).Children[0]) })},
		"22": {true, as(sod, func(n *Node) { SignedDataIn(n).Children[1].Holding(sha256).Children[0].SetOID(md5) })},
		"23": {true, as(sod, func(n *Node) { n.Remove(SignedDataIn(n).Children[1]) })},
		"24": {true, opts(Options{SOD: SignedObject{ContentType: "1.2.3.4"}})},
		"25": {true, as(sod, func(n *Node) { n.Remove(SignedDataIn(n).Find(0x30, 0x06)) })},
		"26": {true, as(sod, func(n *Node) { info(n).Children[0].SetInt(9) })},
		"27": {true, as(sod, func(n *Node) { n.Remove(info(n).Children[0]) })},
		"28": {true, as(sod, func(n *Node) { flip(info(n).Find(0x30, 0x02)) })},
		"29": {true, opts(Options{SOD: SignedObject{ByKeyID: true, Edit: func(n *Node) { flip(info(n).Find(0x80)) }}})},
		"30": {true, as(sod, func(n *Node) { info(n).Holding(sha256).Children[0].SetOID(md5) })},
		"31": {true, as(sod, func(n *Node) { n.Remove(info(n).Holding(sha256)) })},
		"32": {true, as(attributes, func(n *Node) { flip(n.Holding(digest).Find(0x31, 0x04)) })},
		"33": {true, as(attributes, func(n *Node) { n.Remove(n.Holding(digest)) })},
		"36": {true, func() (AuthorityOptions, Options) {
			return AuthorityOptions{Signer: Scheme{Algorithm: RSA}}, Options{SOD: SignedObject{Hash: crypto.MD5}, GroupHash: crypto.SHA256}
		}},
		"37": {false, as(sod, func(n *Node) { flip(info(n).Find(0x04)) })},
		"38": {false, as(sod, func(n *Node) { n.Remove(info(n).Find(0x04)) })},
		"39": {true, as(content, func(n *Node) { n.Children[0].SetInt(9) })},
		"40": {true, as(content, remove(child(0)))},
		"41": {true, as(content, func(n *Node) { n.Holding(sha256).Children[0].SetOID(md5) })},
		"42": {true, as(content, remove(child(1)))},
		"43": {true, as(content, func(n *Node) { flip(hash(n, 2).Find(0x04)) })},
		"44": {true, as(content, func(n *Node) { n.Remove(hash(n, 1)) })},
		"45": {true, as(content, func(n *Node) {
			more := *nodeOf(t, hash(n, 1).Encode())
			more.Children[0].SetInt(10)
			n.Children[2].Children = append(n.Children[2].Children, &more)
		})},
		"46": {true, as(content, func(n *Node) { hash(n, 1).Children[0].Value = []byte{0, 0xFF} })},
		"47": {true, as(content, func(n *Node) { n.Remove(hash(n, 2).Children[0]) })},
		"48": {true, as(tbs, func(n *Node) { n.Find(0xA0, 0x02).SetInt(1) })},
		"49": {true, as(tbs, remove(child(0)))},
		"50": {true, as(tbs, remove(child(1)))},
		"51": {true, as(cert, func(n *Node) { n.Children[1].Children[0].SetOID("1.2.840.10045.4.3.3") })},
		"52": {true, as(tbs, remove(child(2)))},
		"53": {true, func() (AuthorityOptions, Options) { // the CSCA's own name, which the signer repeats
			country := func(n *Node) { n.Holding("2.5.4.6").Children[1].Value = []byte("ut") }
			return AuthorityOptions{EditCSCATBS: func(n *Node) { country(n.Children[3]); country(n.Children[5]) }}, Options{}
		}},
		"54": {true, as(tbs, func(n *Node) { flip(n.Children[3].Holding("2.5.4.3").Children[1]) })},
		"55": {true, as(tbs, remove(child(3)))},
		"56": {true, as(tbs, func(n *Node) {
			from := n.Children[4].Children[0]
			from.Tag, from.Value = 0x18, append([]byte("20"), from.Value...)
		})},
		"57": {true, as(tbs, remove(child(4)))},
		"58": {true, as(tbs, func(n *Node) { n.Children[6].Children[0].Children[0].SetOID("1.2.840.113549.1.1.4") })},
		"59": {true, as(tbs, remove(child(6)))},
		"60": {true, as(tbs, func(n *Node) { n.Holding(authorityKey).Children[1].Value = []byte{0x30, 0} })},
		"61": {true, as(tbs, func(n *Node) { n.Remove(n.Holding(authorityKey)) })},
		"62": {true, as(tbs, func(n *Node) { n.Remove(n.Holding(usage).Find(0x01)) })},
		"63": {true, as(tbs, func(n *Node) { n.Holding(usage).Find(0x04).Value = []byte{3, 2, 5, 0x20} })},
		"64": {true, as(tbs, func(n *Node) { n.Remove(n.Holding(usage)) })},
		"65": {true, func() (AuthorityOptions, Options) {
			return both(Scheme{Algorithm: RSA, Hash: crypto.MD5}), Options{GroupHash: crypto.SHA256}
		}},
		"66": {true, as(cert, remove(child(1)))},
		"67": {true, as(cert, func(n *Node) { flip(n.Children[2]) })},
		"68": {true, as(cert, remove(child(2)))},
		"84": {true, as(sod, func(n *Node) { info(n).Children[0].SetInt(3) })},
		"85": {true, opts(Options{SOD: SignedObject{ByKeyID: true, Edit: func(n *Node) { info(n).Children[0].SetInt(1) }}})},
		"87": {true, opts(Options{LDSVersion: LDS18, SOD: SignedObject{EditContent: func(n *Node) { n.Children[0].SetInt(0) }}})},
		"88": {true, as(content, func(n *Node) { n.Children[0].SetInt(1) })},
		"89": {true, opts(Options{LDSVersion: "0109"})},
		"91": {true, as(content, func(n *Node) { n.Remove(hash(n, 2)) })},
		"92": {true, as(content, func(n *Node) { hash(n, 2).Children[0].SetInt(3) })},
	} {
		t.Run("LDS_H_"+id, func(t *testing.T) {
			written = nil
			authority, options := d.set()
			authority.Keys = testAuthority(t, ECDSA)
			a := made(t, authority)
			options.Face = specimenFace
			var message, signature []byte
			inner, outer := options.SOD.EditAttributes, options.SOD.Edit
			options.SOD.EditAttributes = func(n *Node) {
				if inner != nil {
					inner(n)
				}
				message = n.Encode()
			}
			options.SOD.Edit = func(n *Node) {
				if outer != nil {
					outer(n)
				}
				if last := info(n).Find(0x04); last != nil {
					signature = last.Value
				}
			}
			c, err := a.Personalise(SpecimenPerson(), options)
			if err != nil {
				t.Fatal(err)
			}
			file := c.profile.Application[efSOD]
			if written != nil && !bytes.Contains(file, written[1:]) { // attributes change their tag
				t.Error("the edit is not in the file")
			}
			if !bytes.Contains(file, a.Signer()) {
				t.Error("the signer's certificate is not in the file")
			}
			scheme := a.opts.Signer
			if options.SOD.Hash != 0 {
				scheme.Hash = options.SOD.Hash
			}
			if holds := a.signer.key.verify(scheme, message, signature) == nil; holds != d.holds {
				t.Errorf("the signature holds: %v", holds)
			}
		})
	}
}
