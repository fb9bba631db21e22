package tpm

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"enrollkiosk/hsm"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Info describes the device, for diagnosis.
type Info struct {
	Manufacturer string // four letters, TCG Vendor ID Registry
	Firmware     uint64
	LockedOut    bool // it refuses citizens' keys; the kiosk's are exempt
	Protection   DictionaryAttack
	// ProtectionOwned: somebody set the lockout authorization, so that Protection is not Init's to set.
	ProtectionOwned bool
}

// DictionaryAttack is how a TPM answers wrong authorizations of protected
// objects (TPM 2.0 Part 1, 19.8).
type DictionaryAttack struct {
	MaxTries        uint32        // wrong ones before it locks out
	RecoveryTime    time.Duration // whole seconds; one wrong try is forgiven each
	LockoutRecovery time.Duration // whole seconds; after one wrong lockout authorization
}

// Protection is what Init sets: enough wrong tries for six citizens to block
// their own keys, and a lockout that is over in ten minutes.
var protection = DictionaryAttack{MaxTries: 32, RecoveryTime: 10 * time.Minute, LockoutRecovery: 24 * time.Hour}

// Bits of TPMA_PERMANENT (TPM 2.0 Part 2, 8.6).
const (
	lockoutAuthSet = 1 << 2
	inLockout      = 1 << 9
)

// Info asks the TPM what it is.
func (t *TPM) Info(ctx context.Context) (Info, error) {
	var out Info
	err := t.do(ctx, "describe tpm", func(r transport.TPM) error {
		v, err := properties(r, tpm2.TPMPTManufacturer, 1)
		if err != nil {
			return err
		}
		out.Manufacturer = strings.TrimRight(string(binary.BigEndian.AppendUint32(nil, v[0])), " \x00")
		if v, err = properties(r, tpm2.TPMPTFirmwareVersion1, 2); err != nil {
			return err
		}
		out.Firmware = uint64(v[0])<<32 | uint64(v[1])
		if v, err = properties(r, tpm2.TPMPTPermanent, 1); err != nil {
			return err
		}
		out.LockedOut, out.ProtectionOwned = v[0]&inLockout != 0, v[0]&lockoutAuthSet != 0
		_, out.Protection, err = attacks(r)
		return err
	})
	return out, err
}

// properties reads n of the TPM's properties that follow each other.
func properties(r transport.TPM, first tpm2.TPMPT, n int) ([]uint32, error) {
	got, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(first), PropertyCount: uint32(n)}.Execute(r)
	if err != nil {
		return nil, fmt.Errorf("read property %#x: %w", uint32(first), err)
	}
	list, err := got.CapabilityData.Data.TPMProperties()
	if err != nil {
		return nil, fmt.Errorf("read property %#x: %w", uint32(first), err)
	}
	if len(list.TPMProperty) != n {
		return nil, fmt.Errorf("read property %#x: %w", uint32(first), hsm.ErrUnsupported)
	}
	v := make([]uint32, n)
	for i, p := range list.TPMProperty {
		if p.Property != first+tpm2.TPMPT(i) {
			return nil, fmt.Errorf("read property %#x: %w", uint32(first)+uint32(i), hsm.ErrUnsupported)
		}
		v[i] = p.Value
	}
	return v, nil
}

// attacks is the number of wrong tries that count now, and the parameters.
func attacks(r transport.TPM) (failed uint32, d DictionaryAttack, err error) {
	v, err := properties(r, tpm2.TPMPTLockoutCounter, 4) // counter, MAX_AUTH_FAIL, INTERVAL, RECOVERY
	if err != nil {
		return 0, d, err
	}
	return v[0], DictionaryAttack{v[1], time.Duration(v[2]) * time.Second, time.Duration(v[3]) * time.Second}, nil
}

// lockout tells until when a TPM that answered TPM_RC_LOCKOUT refuses. It
// forgives one try each RecoveryTime and obeys again below MaxTries; the clock
// of the next forgiving may be part of the way, so that the end is the latest
// possible.
func lockout(r transport.TPM) *hsm.Lockout {
	failed, d, err := attacks(r)
	if err != nil || d.RecoveryTime == 0 || d.MaxTries == 0 {
		return &hsm.Lockout{}
	}
	over := time.Duration(1)
	if failed > d.MaxTries {
		over += time.Duration(failed - d.MaxTries)
	}
	return &hsm.Lockout{Until: time.Now().Add(over * d.RecoveryTime)}
}

// protect sets the dictionary-attack parameters where nobody else does.
func protect(r transport.TPM, srk parent) error {
	v, err := properties(r, tpm2.TPMPTPermanent, 1)
	if err != nil {
		return err
	}
	_, now, err := attacks(r)
	if err != nil || v[0]&lockoutAuthSet != 0 || now == protection {
		return err
	}
	s, done, err := session(r, srk, authOnly)
	if err != nil {
		return err
	}
	defer done()
	if err := setDictionaryAttack(r, s, protection); err != nil {
		return fmt.Errorf("set dictionary-attack parameters: %w", err)
	}
	return nil
}

// setDictionaryAttack is TPM2_DictionaryAttackParameters (TPM 2.0 Part 3,
// 25.3), which go-tpm lacks, authorized with s:
//
//	command:  header | TPM_RH_LOCKOUT | UINT32 size, TPMS_AUTH_COMMAND | newMaxTries, newRecoveryTime, lockoutRecovery (UINT32)
//	response: header | UINT32 parameterSize, which is 0 | TPMS_AUTH_RESPONSE
func setDictionaryAttack(r transport.TPM, s tpm2.Session, d DictionaryAttack) error {
	const command = tpm2.TPMCCDictionaryAttackParameters
	names := []tpm2.TPM2BName{tpm2.HandleName(tpm2.TPMRHLockout)}
	var parameters []byte
	for _, v := range []uint32{d.MaxTries, uint32(d.RecoveryTime / time.Second), uint32(d.LockoutRecovery / time.Second)} {
		parameters = binary.BigEndian.AppendUint32(parameters, v)
	}
	if err := s.NewNonceCaller(); err != nil {
		return err
	}
	auth, err := s.Authorize(command, parameters, nil, names, 0)
	if err != nil {
		return err
	}
	area := tpm2.Marshal(*auth)
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
	b = binary.BigEndian.AppendUint32(b, uint32(headerSize+4+4+len(area)+len(parameters)))
	b = binary.BigEndian.AppendUint32(b, uint32(command))
	b = binary.BigEndian.AppendUint32(b, uint32(tpm2.TPMRHLockout))
	b = binary.BigEndian.AppendUint32(b, uint32(len(area)))
	b = append(append(b, area...), parameters...)
	response, err := r.Send(b)
	if err != nil {
		return err
	}
	if rc := tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])); rc != tpm2.TPMRCSuccess {
		return rc
	}
	const fixed = headerSize + 4
	if len(response) < fixed || binary.BigEndian.Uint16(response) != uint16(tpm2.TPMSTSessions) || binary.BigEndian.Uint32(response[headerSize:]) != 0 {
		return fmt.Errorf("%w (%w)", hsm.ErrUnavailable, errFraming)
	}
	answer, err := tpm2.Unmarshal[tpm2.TPMSAuthResponse](response[fixed:])
	if err != nil || len(tpm2.Marshal(*answer)) != len(response)-fixed {
		return fmt.Errorf("%w (%w: authorization)", hsm.ErrUnavailable, errFraming)
	}
	return s.Validate(tpm2.TPMRCSuccess, command, nil, names, 0, answer)
}
