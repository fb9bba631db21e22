package pivtoken

import (
	"bytes"
	"context"

	"enrollkiosk/smartcard/apdu"
)

// Instructions of SP 800-73-4 part 2 and, below, of Yubico.
const (
	insVerify            = 0x20
	insChangeReference   = 0x24
	insResetRetryCounter = 0x2C
	insGenerate          = 0x47
	insAuthenticate      = 0x87
	insSelect            = 0xA4
	insGetResponse       = 0xC0
	insGetData           = 0xCB
	insPutData           = 0xDB

	insMoveKey          = 0xF6
	insGetMetadata      = 0xF7
	insGetSerial        = 0xF8
	insAttest           = 0xF9
	insSetRetries       = 0xFA
	insReset            = 0xFB
	insGetVersion       = 0xFD
	insImportKey        = 0xFE
	insSetManagementKey = 0xFF

	// Of the management and one-time-password applications.
	insReadConfig = 0x1D
	insOTP        = 0x01
)

// Application identifiers.
var (
	aidPIV        = []byte{0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00}
	aidManagement = []byte{0xA0, 0x00, 0x00, 0x05, 0x27, 0x47, 0x11, 0x17}
	aidOTP        = []byte{0xA0, 0x00, 0x00, 0x05, 0x27, 0x20, 0x01}
)

// execute runs one complete command.
func (t *Token) execute(ctx context.Context, c apdu.Command) ([]byte, apdu.Status) {
	if c.INS == insSelect {
		return t.selectApplication(c)
	}
	switch t.session.applet {
	case appletPIV:
		if c.INS != insVerify && c.INS != insAuthenticate {
			t.session.fresh = false
		}
		if data, status := t.executePIV(ctx, c); status != apdu.InstructionNotSupported {
			return data, status
		}
		if !t.has(PlainNIST) {
			return t.executeYubico(c)
		}
	case appletManagement:
		if c.INS == insReadConfig {
			return t.deviceInfo(), apdu.OK
		}
	case appletOTP:
		if c.INS == insOTP && c.P1 == 0x10 {
			return t.serialNumber(), apdu.OK
		}
	}
	return nil, apdu.InstructionNotSupported
}

func (t *Token) executePIV(ctx context.Context, c apdu.Command) ([]byte, apdu.Status) {
	switch c.INS {
	case insVerify:
		return nil, t.verify(c)
	case insChangeReference:
		return nil, t.changeReference(c)
	case insResetRetryCounter:
		return nil, t.resetRetryCounter(c)
	case insGetData:
		return t.readObject(c)
	case insPutData:
		return nil, t.writeObject(c)
	case insGenerate:
		return t.generate(c)
	case insAuthenticate:
		return t.authenticate(ctx, c)
	}
	return nil, apdu.InstructionNotSupported
}

// selectApplication is SP 800-73-4 part 2, 3.1.1: selecting the selected
// application again, also by a truncated identifier, changes nothing.
func (t *Token) selectApplication(c apdu.Command) ([]byte, apdu.Status) {
	if c.P1 != 0x04 || c.P2 != 0x00 {
		return nil, apdu.IncorrectP1P2
	}
	id := c.Data
	switch {
	case len(id) >= 5 && bytes.HasPrefix(aidPIV, id) && (len(id) >= 9 || !t.has(LikeNitrokey)):
		t.enter(appletPIV)
		return encode(0x61,
			encode(0x4F, aidPIV[5:]),
			encode(0x79, encode(0x4F, aidPIV[:5]))), apdu.OK
	case t.has(PlainNIST | LikeNitrokey | LikePivApplet):
	case bytes.Equal(id, aidManagement):
		t.enter(appletManagement)
		return []byte("Virtual mgr - FW version " + t.version.String()), apdu.OK
	case bytes.HasPrefix(id, aidOTP) && len(id) <= len(aidOTP)+1:
		t.enter(appletOTP)
		return append(t.version[:], 0, 0, 0, 0), apdu.OK
	}
	return nil, apdu.FileNotFound
}

func (t *Token) enter(a applet) {
	if t.session.applet != a {
		t.session = session{applet: a}
	}
}

// verify is SP 800-73-4 part 2, 3.2.1.
func (t *Token) verify(c apdu.Command) apdu.Status {
	if c.P2 != 0x80 {
		return apdu.ReferencedDataNotFound
	}
	s := &t.session
	s.fresh = false
	switch {
	case c.P1 == 0xFF && len(c.Data) == 0:
		s.verified = false
		return apdu.OK
	case c.P1 != 0x00:
		return apdu.IncorrectP1P2
	case len(c.Data) == 0 && s.verified:
		return apdu.OK
	case len(c.Data) == 0:
		return t.pin.state()
	case len(c.Data) != pinLength:
		return apdu.WrongData
	}
	status := t.pin.check(c.Data)
	s.verified = status == apdu.OK
	s.fresh = s.verified
	return status
}

// changeReference is SP 800-73-4 part 2, 3.2.2, for PIN and PUK.
func (t *Token) changeReference(c apdu.Command) apdu.Status {
	if c.P1 != 0 {
		return apdu.IncorrectP1P2
	}
	ref := &t.pin
	switch c.P2 {
	case 0x80:
	case 0x81:
		ref = &t.puk
	default:
		return apdu.ReferencedDataNotFound
	}
	if len(c.Data) != 2*pinLength {
		return apdu.WrongData
	}
	old, next := c.Data[:pinLength], c.Data[pinLength:]
	if status := ref.check(old); status != apdu.OK {
		if ref == &t.pin {
			t.session.verified = false
		}
		return status
	}
	if !wellFormed(next) {
		return apdu.WrongData
	}
	ref.set(next)
	if ref == &t.pin {
		t.session.verified = true
	}
	return apdu.OK
}

// resetRetryCounter is SP 800-73-4 part 2, 3.2.3: the PUK sets a new PIN.
func (t *Token) resetRetryCounter(c apdu.Command) apdu.Status {
	if c.P1 != 0 {
		return apdu.IncorrectP1P2
	}
	if c.P2 != 0x80 {
		return apdu.ReferencedDataNotFound
	}
	if len(c.Data) != 2*pinLength {
		return apdu.WrongData
	}
	puk, next := c.Data[:pinLength], c.Data[pinLength:]
	if status := t.puk.check(puk); status != apdu.OK {
		return status
	}
	if !wellFormed(next) {
		return apdu.WrongData
	}
	t.pin.set(next)
	return apdu.OK
}

// Objects that only a verified PIN opens (SP 800-73-4 part 1, table 2):
// fingerprints, facial image, printed information, iris images.
func needsPIN(tag uint32) bool {
	return tag == 0x5FC103 || tag == 0x5FC108 || tag == 0x5FC109 || tag == 0x5FC121
}

const tagDiscovery = 0x7E

// readObject is GET DATA (SP 800-73-4 part 2, 3.1.2).
func (t *Token) readObject(c apdu.Command) ([]byte, apdu.Status) {
	if c.P1 != 0x3F || c.P2 != 0xFF {
		return nil, apdu.IncorrectP1P2
	}
	list, err := parseTLV(c.Data)
	if err != nil || len(list) != 1 || list[0].tag != 0x5C {
		return nil, apdu.WrongData
	}
	tag := number(list[0].value)
	if tag == tagDiscovery {
		// The PIN is the only way to satisfy the PIN policy: 40 00.
		return encode(tagDiscovery,
			encode(0x4F, aidPIV),
			encode(0x5F2F, []byte{0x40, 0x00})), apdu.OK
	}
	if needsPIN(tag) && !t.session.verified {
		return nil, apdu.SecurityNotSatisfied
	}
	value, ok := t.objects[tag]
	if !ok {
		return nil, apdu.FileNotFound
	}
	return encode(0x53, value), apdu.OK
}

// writeObject is PUT DATA (SP 800-73-4 part 2, 3.3.1). An empty object is
// deleted.
func (t *Token) writeObject(c apdu.Command) apdu.Status {
	if c.P1 != 0x3F || c.P2 != 0xFF {
		return apdu.IncorrectP1P2
	}
	if !t.session.admin {
		return apdu.SecurityNotSatisfied
	}
	list, err := parseTLV(c.Data)
	if err != nil || len(list) != 2 || list[0].tag != 0x5C || list[1].tag != 0x53 {
		return apdu.WrongData
	}
	tag, value := number(list[0].value), list[1].value
	switch {
	case tag>>8 != 0x5FC1 && (tag>>8 != 0x5FFF || t.has(PlainNIST)):
		return apdu.FileNotFound
	case len(value) > maxObject:
		return statusNoMemory
	case len(value) == 0:
		delete(t.objects, tag)
	default:
		t.objects[tag] = bytes.Clone(value)
	}
	return apdu.OK
}

// number reads a tag list of one tag; 0 when it is no tag of ours.
func number(b []byte) uint32 {
	if len(b) > 3 {
		return 0
	}
	var n uint32
	for _, o := range b {
		n = n<<8 | uint32(o)
	}
	return n
}
