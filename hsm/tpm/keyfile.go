package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"enrollkiosk/kiosk/durable"
)

// A key file holds two or three PEM blocks. The first is the key as other TPM
// software knows it (draft-bottomley-tpm2-keys, "TSS2 PRIVATE KEY"); the private
// part is encrypted by the TPM. The second is what TPM2_CertifyCreation needs,
// so that the key's birth can be certified at any time. The third, of a
// citizen's key alone, is the salt with which its PIN becomes its authorization
// value.
const (
	keyBlock      = "TSS2 PRIVATE KEY"
	creationBlock = "TPM2 CREATION"
	saltBlock     = "TPM2 AUTH SALT"
	saltSize      = 16
	maxKeyFile    = 16 << 10
)

// loadableKey is OID id-loadablekey (draft-bottomley-tpm2-keys 3.1).
var loadableKey = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}

// tssKey is TPMKey of draft-bottomley-tpm2-keys 3, without the members that
// our keys do not have: policies, secret, description. The last three are
// written as their TPM2B structures.
type tssKey struct {
	Type      asn1.ObjectIdentifier
	EmptyAuth bool `asn1:"explicit,tag:0"` // optional, but tpm2-openssl 1.1 takes absent for true
	Parent    int64
	Public    []byte
	Private   []byte
}

// tssCreation holds TPMS_CREATION_DATA, its digest and TPMT_TK_CREATION.
type tssCreation struct{ Data, Hash, Ticket []byte }

// blob is one of our keys outside the TPM, where it is useless.
type blob struct {
	parent   uint32
	public   []byte // TPMT_PUBLIC
	private  []byte // TPM2B_PRIVATE's contents
	creation tssCreation
	salt     []byte // nil if the authorization value is empty

	// derived
	key     *ecdsa.PublicKey
	name    []byte // TPM name: algorithm and digest of public
	srk     []byte // name of the parent it was born under
	outside []byte // outsideInfo it was born with
}

// ErrKeyFile is a damaged key file. It is never replaced: its key may be
// certified already.
var ErrKeyFile = errors.New("a key file is damaged: restore it from a backup or call staff")

func (b *blob) encode() ([]byte, error) {
	key, err := asn1.Marshal(tssKey{
		Type: loadableKey, EmptyAuth: b.salt == nil, Parent: int64(b.parent),
		Public:  tpm2.Marshal(tpm2.BytesAs2B[tpm2.TPMTPublic](b.public)),
		Private: tpm2.Marshal(tpm2.TPM2BPrivate{Buffer: b.private}),
	})
	if err != nil {
		return nil, err
	}
	creation, err := asn1.Marshal(b.creation)
	if err != nil {
		return nil, err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: key}),
		pem.EncodeToMemory(&pem.Block{Type: creationBlock, Bytes: creation})...)
	if b.salt != nil {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: saltBlock, Bytes: b.salt})...)
	}
	return text, nil
}

func decodeBlob(text []byte) (*blob, error) {
	key, rest := pem.Decode(text)
	if key == nil || key.Type != keyBlock {
		return nil, fmt.Errorf("%w: no %s", ErrKeyFile, keyBlock)
	}
	birth, rest := pem.Decode(rest)
	if birth == nil || birth.Type != creationBlock {
		return nil, fmt.Errorf("%w: no %s", ErrKeyFile, creationBlock)
	}
	salt, end := pem.Decode(rest)
	if salt != nil {
		rest = end
	}
	if len(bytes.TrimSpace(rest)) > 0 || salt != nil && (salt.Type != saltBlock || len(salt.Bytes) != saltSize) {
		return nil, fmt.Errorf("%w: want nothing or one %s behind %s", ErrKeyFile, saltBlock, creationBlock)
	}
	var k tssKey
	if rest, err := asn1.Unmarshal(key.Bytes, &k); err != nil || len(rest) > 0 || !k.Type.Equal(loadableKey) || k.EmptyAuth != (salt == nil) || k.Parent <= 0 || k.Parent > 0xFFFFFFFF {
		return nil, fmt.Errorf("%w: not a loadable key of ours", ErrKeyFile)
	}
	b := &blob{parent: uint32(k.Parent)}
	if salt != nil {
		b.salt = salt.Bytes
	}
	if rest, err := asn1.Unmarshal(birth.Bytes, &b.creation); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%w: creation data", ErrKeyFile)
	}
	var ok1, ok2 bool
	b.public, ok1 = sized(k.Public)
	b.private, ok2 = sized(k.Private)
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("%w: lengths", ErrKeyFile)
	}
	return b, b.derive()
}

// sized strips the length of a TPM2B.
func sized(b []byte) ([]byte, bool) {
	if len(b) < 2 || int(b[0])<<8|int(b[1]) != len(b)-2 {
		return nil, false
	}
	return b[2:], true
}

// derive reads what the public area and the creation data say.
func (b *blob) derive() error {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](b.public)
	if err != nil || !bytes.Equal(tpm2.Marshal(*public), b.public) {
		return fmt.Errorf("%w: public area", ErrKeyFile)
	}
	if b.key, err = p256(public); err != nil {
		return err
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return fmt.Errorf("%w: name: %w", ErrKeyFile, err)
	}
	b.name = name.Buffer
	creation, err := tpm2.Unmarshal[tpm2.TPMSCreationData](b.creation.Data)
	if err != nil || !bytes.Equal(tpm2.Marshal(*creation), b.creation.Data) {
		return fmt.Errorf("%w: creation data", ErrKeyFile)
	}
	b.srk, b.outside = creation.ParentName.Buffer, creation.OutsideInfo.Buffer
	return nil
}

// p256 is the public key of an area that must be ours: ECC P-256.
func p256(public *tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	parms, err := public.Parameters.ECCDetail()
	if err != nil || public.Type != tpm2.TPMAlgECC || parms.CurveID != tpm2.TPMECCNistP256 {
		return nil, fmt.Errorf("%w: not a P-256 key", ErrKeyFile)
	}
	point, err := public.Unique.ECC()
	if err != nil || len(point.X.Buffer) != 32 || len(point.Y.Buffer) != 32 {
		return nil, errShortPoint
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, point.X.Buffer, point.Y.Buffer))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return key, nil
}

// errShortPoint: some TPMs strip leading zeros from coordinates, but hash the
// padded form into the name. One key in 128 is affected.
var errShortPoint = fmt.Errorf("%w: coordinates are not 32 bytes", ErrKeyFile)

// load reads the key file name in dir; nil if there is none.
func load(dir, name string) (*blob, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(&limited{f, maxKeyFile}); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	b, err := decodeBlob(buf.Bytes())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return b, nil
}

// limited fails, rather than ends, after n bytes.
type limited struct {
	f *os.File
	n int
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.f.Read(p)
	if l.n -= n; l.n < 0 {
		return n, fmt.Errorf("%w: too long", ErrKeyFile)
	}
	return n, err
}

// store writes the key file so that it is whole or absent after a power cut.
func (b *blob) store(dir, name string) error {
	text, err := b.encode()
	if err != nil {
		return err
	}
	return durable.Replace(filepath.Join(dir, name), text)
}
