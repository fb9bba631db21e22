package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"enrollkiosk/hsm"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// nvChunk is read at once: every TPM's NV buffer holds it (TPM_PT_NV_BUFFER_MAX
// of the PC Client platform is 1024 or less).
const nvChunk = 512

// maxNV bounds one certificate.
const maxNV = 8 << 10

// counterAttributes of the index: read and incremented with its own empty
// authorization, outside dictionary-attack protection, and not "orderly", so
// that a power cut skips no numbers.
var counterAttributes = tpm2.TPMANV{
	AuthWrite: true, AuthRead: true, OwnerRead: true, NoDA: true, NT: tpm2.TPMNTCounter,
}

// nvIndex is an index with its present name.
type nvIndex struct {
	tpm2.NamedHandle
	public tpm2.TPMSNVPublic
}

func readIndex(r transport.TPM, index uint32) (nvIndex, error) {
	got, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(r)
	if err != nil {
		return nvIndex{}, fmt.Errorf("read nv index %#x: %w", index, err)
	}
	public, err := got.NVPublic.Contents()
	if err != nil {
		return nvIndex{}, fmt.Errorf("read nv index %#x: %w", index, err)
	}
	name, err := tpm2.NVName(public)
	if err != nil {
		return nvIndex{}, fmt.Errorf("read nv index %#x: %w", index, err)
	}
	if uint32(public.NVIndex) != index {
		return nvIndex{}, fmt.Errorf("read nv index %#x: %w (%w: another index)", index, hsm.ErrUnavailable, errFraming)
	}
	return nvIndex{tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: *name}, *public}, nil
}

// counter finds our index. Its name changes with its first increment, so it is
// read each time.
func counter(r transport.TPM, index uint32) (nvIndex, error) {
	nv, err := readIndex(r, index)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nvIndex{}, fmt.Errorf("%w (%w)", ErrNotInitialized, err)
	}
	if err != nil {
		return nvIndex{}, err
	}
	want := counterAttributes
	want.Written = nv.public.Attributes.Written
	if nv.public.Attributes != want || nv.public.DataSize != 8 || len(nv.public.AuthPolicy.Buffer) > 0 || nv.public.NameAlg != tpm2.TPMAlgSHA256 {
		return nvIndex{}, fmt.Errorf("nv index %#x is not the kiosk's counter: %w", index, ErrForeign)
	}
	return nv, nil
}

// makeCounter defines the counter and gives it its first value, which is above
// every value that any counter of this TPM ever had.
func makeCounter(r transport.TPM, srk parent, index uint32) error {
	s, done, err := session(r, srk, authOnly)
	if err != nil {
		return err
	}
	defer done()
	nv, err := counter(r, index)
	if errors.Is(err, ErrNotInitialized) {
		_, err = tpm2.NVDefineSpace{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: s},
			PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
				NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, Attributes: counterAttributes, DataSize: 8,
			}),
		}.Execute(r)
		if err != nil {
			return fmt.Errorf("define counter: %w", owned(err))
		}
		nv, err = counter(r, index)
	}
	if err != nil || nv.public.Attributes.Written {
		return err
	}
	_, err = tpm2.NVIncrement{
		AuthHandle: tpm2.AuthHandle{Handle: nv.Handle, Name: nv.Name, Auth: s},
		NVIndex:    nv.NamedHandle,
	}.Execute(r)
	if err != nil {
		return fmt.Errorf("start counter: %w", err)
	}
	return nil
}

// Counter is the present value; ErrNotInitialized before Init.
func (t *TPM) Counter(ctx context.Context) (uint64, error) {
	return t.count(ctx, "read counter", false)
}

// Increment adds one and returns the new value. After an error the counter may
// have moved or not; a caller asks Counter.
func (t *TPM) Increment(ctx context.Context) (uint64, error) {
	return t.count(ctx, "increment counter", true)
}

// count authenticates both ways in a TPM session salted to the storage root
// key that the key files name: nobody between us and the TPM can swallow an
// increment or invent a value.
func (t *TPM) count(ctx context.Context, what string, increment bool) (value uint64, err error) {
	err = t.do(ctx, what, func(r transport.TPM) error {
		if len(t.keys) == 0 {
			return ErrNotInitialized
		}
		srk, err := t.srk(r)
		if err != nil {
			return err
		}
		nv, err := counter(r, t.options.Counter)
		if err != nil {
			return err
		}
		if !nv.public.Attributes.Written {
			return fmt.Errorf("counter has no value: %w", ErrNotInitialized)
		}
		s, done, err := session(r, srk, authOnly)
		if err != nil {
			return err
		}
		defer done()
		auth := tpm2.AuthHandle{Handle: nv.Handle, Name: nv.Name, Auth: s}
		if increment {
			if _, err := (tpm2.NVIncrement{AuthHandle: auth, NVIndex: nv.NamedHandle}).Execute(r); err != nil {
				return err
			}
		}
		got, err := tpm2.NVRead{AuthHandle: auth, NVIndex: nv.NamedHandle, Size: 8}.Execute(r)
		if err != nil {
			return err
		}
		if len(got.Data.Buffer) != 8 {
			return fmt.Errorf("%w (%w: counter of %d bytes)", hsm.ErrUnavailable, errFraming, len(got.Data.Buffer))
		}
		value = binary.BigEndian.Uint64(got.Data.Buffer)
		return nil
	})
	return value, err
}

// EKCertificate is an endorsement certificate that the maker left in NV.
type EKCertificate struct {
	Index uint32
	DER   []byte
}

// ekIndexes are where certificates stand (TCG EK Credential Profile 2.5,
// 2.2.1.4 and 2.2.1.5): low range RSA-2048 and P-256, high range from RSA-2048
// to RSA-4096.
var ekIndexes = []uint32{
	0x01c00002, 0x01c0000a,
	0x01c00012, 0x01c00014, 0x01c00016, 0x01c00018, 0x01c0001a, 0x01c0001c, 0x01c0001e,
}

// EKCertificates reads the endorsement certificates in order of their index.
// None is hsm.ErrUnsupported: such a TPM cannot prove what it is. They are
// untrusted until hsm/attest has verified them.
func (t *TPM) EKCertificates(ctx context.Context) ([]EKCertificate, error) {
	var out []EKCertificate
	err := t.do(ctx, "read endorsement certificates", func(r transport.TPM) error {
		for _, index := range ekIndexes {
			nv, err := readIndex(r, index)
			if errors.Is(err, tpm2.TPMRCHandle) {
				continue
			}
			if err != nil {
				return err
			}
			data, err := readNV(r, nv)
			if err != nil {
				return fmt.Errorf("read nv index %#x: %w", index, err)
			}
			der, err := firstDER(data)
			if err != nil {
				return fmt.Errorf("nv index %#x: %w", index, err)
			}
			out = append(out, EKCertificate{index, der})
		}
		if len(out) == 0 {
			return fmt.Errorf("no endorsement certificate: %w", hsm.ErrUnsupported)
		}
		return nil
	})
	return out, err
}

// readNV reads a whole index, with the index's own authorization or the
// owner's, whichever its attributes allow.
func readNV(r transport.TPM, nv nvIndex) ([]byte, error) {
	if nv.public.DataSize > maxNV {
		return nil, fmt.Errorf("%d bytes: %w", nv.public.DataSize, hsm.ErrUnsupported)
	}
	auth := tpm2.AuthHandle{Handle: nv.Handle, Name: nv.Name, Auth: tpm2.PasswordAuth(nil)}
	if !nv.public.Attributes.AuthRead {
		auth = tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	}
	size := int(nv.public.DataSize)
	out := make([]byte, 0, size)
	for len(out) < size {
		n := min(nvChunk, size-len(out))
		got, err := tpm2.NVRead{AuthHandle: auth, NVIndex: nv.NamedHandle, Size: uint16(n), Offset: uint16(len(out))}.Execute(r)
		if err != nil {
			return nil, err
		}
		if len(got.Data.Buffer) != n {
			return nil, fmt.Errorf("%w (%w: %d bytes for %d)", hsm.ErrUnavailable, errFraming, len(got.Data.Buffer), n)
		}
		out = append(out, got.Data.Buffer...)
	}
	return out, nil
}

// firstDER cuts the padding that some makers leave behind a certificate.
func firstDER(b []byte) ([]byte, error) {
	if len(b) < 4 || b[0] != 0x30 || b[1] != 0x82 {
		return nil, fmt.Errorf("no certificate there: %w", hsm.ErrUnsupported)
	}
	n := 4 + int(b[2])<<8 + int(b[3])
	if n > len(b) {
		return nil, fmt.Errorf("certificate cut short: %w", hsm.ErrUnsupported)
	}
	return b[:n:n], nil
}
