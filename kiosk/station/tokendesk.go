package station

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/durable"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/expect"
	"enrollkiosk/registry/policy"
)

// What the service desk does with tokens, outside an enrollment.

// DescribeToken reads everything that the token in a reader tells about itself,
// and judges its attestations under a policy. The zero policy trusts nobody.
func DescribeToken(ctx context.Context, reader string, p policy.Policy) (piv.Description, error) {
	roots, err := expect.Roots(p.PIVRoots)
	if err != nil {
		return piv.Description{}, err
	}
	between, err := expect.Intermediates(p)
	if err != nil {
		return piv.Description{}, err
	}
	d, err := piv.Describe(ctx, reader)
	if err != nil {
		return d, err
	}
	for i := range d.Slots {
		o := &d.Slots[i]
		if o.Evidence == nil {
			continue
		}
		// Touches aside: that the key is the token's is what is asked here.
		want := expect.Token(p, between, byte(o.Ref), o.Public, time.Now())
		want.Serial = d.Serial
		want.PIN, want.Touch = hsm.PINOnce, hsm.TouchNever
		proof, err := attest.VerifyPIV(*o.Evidence, roots, want)
		switch {
		case len(roots) == 0:
			o.Attested = "not verified: no roots"
		case err != nil:
			o.Attested = "not verified: " + err.Error()
		default:
			o.Attested = "verified, root of class " + proof.Class()
		}
	}
	return d, nil
}

// Provisioning is a token to prepare without an enrollment.
type Provisioning struct {
	Reader   string // its whole name
	Policy   policy.Policy
	PIN      secret.Text // the citizen's, checked by kiosk.CheckPIN
	Dir      string      // where the token's file goes
	Progress func(hsm.Progress)
}

// ProvisionToken makes a factory-new token ready for a citizen, as an enrollment
// does, and writes its file: the evidence of its keys, and PUK and management key
// sealed to the policy's authority, before they are set (docs/token-file.md). It
// returns the file's name.
//
// A token that was written to and is refused is reset and its file is removed.
// One that was pulled out is begun: it must be reset by hand.
//
// Errors: those of the driver, attest's, and of writing the file.
func ProvisionToken(ctx context.Context, o Provisioning) (file string, err error) {
	roots, err := expect.Roots(o.Policy.PIVRoots)
	if err != nil {
		return "", err
	}
	opened, err := piv.Open(ctx, o.Reader)
	if err != nil {
		return "", err
	}
	t := token{opened}
	defer func() { t.Close() }()
	info := t.Info()
	if err := info.Usable(); err != nil {
		return "", err
	}
	file = filepath.Join(o.Dir, fmt.Sprintf("token-%d.json", info.Serial))
	defer func() {
		if err != nil && !errors.Is(err, hsm.ErrRemoved) {
			t.Close()
			if resetErr := resetToken(ctx, o.Reader, info.Serial); resetErr != nil {
				err = fmt.Errorf("%w; it was not reset: %w", err, resetErr)
				return
			}
			if removeErr := os.Remove(file); removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
				err = errors.Join(err, removeErr)
			}
		}
	}()
	if err := t.SetPIN(ctx, o.PIN); err != nil {
		return "", err
	}
	keys, err := kiosk.MakeTokenKeys(ctx, t, o.PIN, o.Policy, o.Progress)
	if err != nil {
		return "", err
	}
	if _, err := kiosk.VerifyTokenKeys(o.Policy, roots, keys, info.Serial, time.Now()); err != nil {
		return "", err
	}
	admin := kiosk.NewTokenAdmin()
	defer admin.PUK.Wipe()
	defer admin.ManagementKey.Wipe()
	b, err := tokenFile(info.Serial, keys, o.Policy.Authority, admin, time.Now())
	if err != nil {
		return "", err
	}
	if err := durable.Replace(file, b); err != nil {
		return "", fmt.Errorf("write token file: %w", err)
	}
	if o.Progress != nil {
		o.Progress(hsm.Storing)
	}
	if err := t.Lock(ctx, o.PIN, admin); err != nil {
		return "", err
	}
	if err := t.Close(); err != nil {
		return "", err
	}
	// Opened anew, the token speaks for itself.
	again, err := piv.Open(ctx, o.Reader)
	if err != nil {
		return "", err
	}
	t = token{again}
	return file, again.Ready()
}

// resetLimit is for a token that will not be used, whatever became of the caller.
const resetLimit = 20 * time.Second

func resetToken(ctx context.Context, reader string, serial uint32) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resetLimit)
	defer cancel()
	t, err := piv.Open(ctx, reader)
	if err != nil {
		return err
	}
	defer t.Close()
	if t.Info().Serial != serial {
		return hsm.ErrRemoved
	}
	return t.Reset(ctx)
}
