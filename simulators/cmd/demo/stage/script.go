package stage

import (
	"context"
	"errors"
	"fmt"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
)

// Script plays officer and citizen at a desk: it answers each screen as people
// would who want the enrollment to succeed.
type Script struct {
	Desk       kiosk.Desk
	Language   string
	CAN        string
	MRZ        *[3]string // number, birth, expiry: typed instead of the CAN
	PIN        string
	OfficerPIN string
	Bring      func(kiosk.Device) // puts a card on its reader
	Take       func(kiosk.Device) // takes it away
	NoToken    bool               // the citizen has none, and leaves the key in the kiosk
	Custody    string             // number of a key kept there that the citizen comes back to, "" for a first enrollment
	KeyPIN     string             // the PIN of that key
	Receipt    string             // what a scanner types of its QR code
	Errand     kiosk.Action       // what the citizen comes for beside an enrollment
	Leave      bool               // the citizen proves that key and leaves; otherwise moves to a token
	Officer    func(i int)        // has the card of officer i lie on the officers' reader: 0 signed on, 1 is the second one
	// Swap has the person hold the other card: the guardian's on ScreenGuardianCard, the
	// citizen's on ScreenCardBack. Nobody else is asked.
	Swap        func(kiosk.Screen)
	GuardianCAN string            // of the guardian's card
	Paper       kiosk.Action      // what shows who the guardian is; "" for a birth certificate
	Scan        string            // what a scanner types of the machine readable zone, in place of the CAN
	OnState     func(kiosk.State) // sees every state, before it is answered
	// Act, when it says yes, has answered the state in its own way.
	Act func(ctx context.Context, s kiosk.State) (done bool, err error)
}

// errEnded means that the agent went away.
var errEnded = errors.New("the agent has ended")

// Enroll plays until the desk is back at the home screen after a receipt, or
// after a visit that wants none, and returns what stood on the receipt. A trouble screen ends it with the Fault,
// unless Act handles that.
func (p *Script) Enroll(ctx context.Context) (*kiosk.ReceiptView, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	states, err := p.Desk.States(ctx)
	if err != nil {
		return nil, err
	}
	var receipt *kiosk.ReceiptView
	var answered uint64
	var left bool
	for {
		select {
		case <-ctx.Done():
			return receipt, ctx.Err()
		case s, ok := <-states:
			if !ok {
				return receipt, errEnded
			}
			if p.OnState != nil {
				p.OnState(s)
			}
			if s.Screen == kiosk.ScreenTakeThings {
				for _, d := range s.Left {
					p.Take(d)
				}
				continue
			}
			if s.Screen == kiosk.ScreenGuardianCard || s.Screen == kiosk.ScreenCardBack {
				p.exchange(s)
			}
			if s.Number == answered {
				continue
			}
			answered = s.Number
			if s.Screen == kiosk.ScreenReceipt {
				// The agent wipes the cancel code when the screen is left.
				kept := *s.Receipt
				kept.CancelCode = secret.FromString(string(s.Receipt.CancelCode.Reveal()))
				receipt = &kept
			}
			if p.Act != nil {
				done, err := p.Act(ctx, s)
				if err != nil {
					return receipt, err
				}
				if done {
					continue
				}
			}
			if s.Screen == kiosk.ScreenHome && (receipt != nil || left) {
				return receipt, nil
			}
			if s.Screen == kiosk.ScreenTrouble {
				return receipt, s.Fault
			}
			in, err := p.answer(s)
			if err != nil {
				return receipt, err
			}
			left = left || in.Action == kiosk.ActionLeave || s.Screen == kiosk.ScreenIdentityEnded
			if in.Action != "" {
				if err := p.Desk.Send(ctx, in); err != nil {
					return receipt, err
				}
			}
		}
	}
}

// exchange takes the card away that lies on the document's reader and, once the kiosk
// has seen that, puts the other one there.
func (p *Script) exchange(s kiosk.State) {
	switch {
	case len(s.Left) > 0:
		p.Take(kiosk.DeviceDocument)
	case s.Health.Readers[kiosk.DeviceDocument] == kiosk.ReaderEmpty:
		p.Swap(s.Screen)
		p.Bring(kiosk.DeviceDocument)
	}
}

// answer is what people do on a screen.
func (p *Script) answer(s kiosk.State) (kiosk.Intent, error) {
	in := kiosk.Intent{State: s.Number, Action: s.Main}
	switch s.Screen {
	case kiosk.ScreenSignOn, kiosk.ScreenLocked, kiosk.ScreenApprove:
		away := s.Locked && s.Fault != nil && s.Fault.Code == kiosk.CodeOfficerRemoved // it is put back
		if s.PIN.Problem != kiosk.PINFine || s.Fault != nil && s.Fault.Code != kiosk.CodeReaderMissing && !away {
			return in, s.Fault
		}
		p.Officer(0)
		in.Secret = secret.FromString(p.OfficerPIN)
	case kiosk.ScreenSecondOfficer, kiosk.ScreenSecondApprove:
		if s.PIN.Problem != kiosk.PINFine || s.Fault != nil && s.Fault.Code != kiosk.CodeReaderMissing {
			return in, s.Fault
		}
		p.Officer(1)
		in.Secret = secret.FromString(p.OfficerPIN)
	case kiosk.ScreenHome:
		if p.Custody != "" || p.Errand != "" {
			in.Action = kiosk.ActionServices
		}
	case kiosk.ScreenServices:
		if in.Action = p.Errand; p.Custody != "" {
			in.Action = kiosk.ActionCustody
		}
	case kiosk.ScreenCustodyNumber:
		if s.PIN.Problem != kiosk.PINFine {
			return in, fmt.Errorf("custody number refused: %s", s.PIN.Problem)
		}
		in.Secret = secret.FromString(p.Custody)
	case kiosk.ScreenCustodyPIN:
		if s.PIN.Problem != kiosk.PINFine {
			return in, fmt.Errorf("key's pin refused: %s", s.PIN.Problem)
		}
		in.Secret = secret.FromString(p.KeyPIN)
	case kiosk.ScreenCustodyKey:
		if p.Leave {
			in.Action = kiosk.ActionLeave
		}
	case kiosk.ScreenScanReceipt:
		if s.Fault != nil {
			return in, s.Fault
		}
		in.Action, in.Secret = kiosk.ActionScan, secret.FromString(p.Receipt)
	case kiosk.ScreenShowToken:
		p.Bring(kiosk.DeviceToken)
		in.Action = ""
	case kiosk.ScreenTokenPIN:
		if s.PIN.Problem != kiosk.PINFine {
			return in, fmt.Errorf("token's pin refused: %s", s.PIN.Problem)
		}
		in.Secret = secret.FromString(p.PIN)
	case kiosk.ScreenEndIdentity:
		if in.Action = kiosk.ActionWithToken; p.Receipt != "" {
			in.Action = kiosk.ActionWithReceipt
		}
	case kiosk.ScreenConfirmEnd, kiosk.ScreenIdentityEnded:
	case kiosk.ScreenWelcome, kiosk.ScreenNoToken, kiosk.ScreenCompare, kiosk.ScreenConfirmData, kiosk.ScreenReview, kiosk.ScreenReceipt,
		kiosk.ScreenGuardian, kiosk.ScreenGuardianCompare:
	case kiosk.ScreenGuardianProof:
		if in.Action = p.Paper; in.Action == "" {
			in.Action = kiosk.ActionBirthPaper
		}
	case kiosk.ScreenGuardianNote:
		in.Secret = secret.FromString("ADOPTION 12/2026")
	case kiosk.ScreenLanguage:
		in.Choice = p.Language
	case kiosk.ScreenPlaceCard:
		p.Bring(kiosk.DeviceDocument)
		in.Action = ""
	case kiosk.ScreenAccessNumber:
		if s.PIN.Problem != kiosk.PINFine {
			return in, fmt.Errorf("access number refused: %s", s.PIN.Problem)
		}
		if p.Scan != "" {
			in.Action, in.Secret = kiosk.ActionScanMRZ, secret.FromString(p.Scan)
			break
		}
		if m := p.MRZ; m != nil {
			in.Action = kiosk.ActionEnterMRZ
			in.MRZ = &kiosk.MRZKey{Number: secret.FromString(m[0]), Birth: secret.FromString(m[1]), Expiry: secret.FromString(m[2])}
			break
		}
		in.Secret = secret.FromString(p.CAN)
		if s.Guardian != nil {
			in.Secret = secret.FromString(p.GuardianCAN)
		}
	case kiosk.ScreenConsent:
		in.Choice = s.Consent.ID
	case kiosk.ScreenInsertToken:
		if p.NoToken {
			in.Action = kiosk.ActionNoToken
			break
		}
		p.Bring(kiosk.DeviceToken)
		in.Action = ""
	case kiosk.ScreenChoosePIN, kiosk.ScreenRepeatPIN:
		if s.PIN.Problem != kiosk.PINFine {
			return in, fmt.Errorf("pin refused: %s", s.PIN.Problem)
		}
		in.Secret = secret.FromString(p.PIN)
	default: // waiting screens
		in.Action = ""
	}
	return in, nil
}
