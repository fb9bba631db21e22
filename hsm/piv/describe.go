package piv

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/tlv"
)

// Description is everything that a PIV card tells about itself without a PIN.
// What a card does not say is left out, what it says in another form than the
// standard's is named in Problems: odd cards are what somebody looks at.
type Description struct {
	Application string      `json:"application,omitzero"` // version of the application, from the answer to SELECT
	Serial      uint32      `json:"serial,omitzero"`
	Firmware    string      `json:"firmware,omitzero"`
	FormFactor  string      `json:"form_factor,omitzero"` // from the management application
	FactoryNew  bool        `json:"factory_new"`          // see Info
	Ready       bool        `json:"ready"`
	CanAttest   bool        `json:"can_attest"`
	CanAgree    bool        `json:"can_agree"` // it does not say that it cannot do ECDH
	PIN         Tries       `json:"pin"`
	PUK         Tries       `json:"puk"`
	Management  Management  `json:"management_key"`
	Slots       []Occupied  `json:"slots"`
	CHUID       *CHUID      `json:"chuid,omitempty"`
	CCC         string      `json:"card_identifier,omitzero"` // of the card capability container, hex
	PINUsage    string      `json:"pin_usage,omitzero"`       // of the discovery object, hex
	History     *KeyHistory `json:"key_history,omitempty"`
	Problems    []string    `json:"problems,omitempty"`
	Attestation []byte      `json:"-"` // certificate of F9, DER
}

// Setting says whether a credential is the factory's.
type Setting string

const (
	FactorySet Setting = "factory"
	Replaced   Setting = "replaced"
	Unsaid     Setting = "unknown"
)

func (m metadata) setting() Setting {
	switch {
	case !m.told:
		return Unsaid
	case m.factory:
		return FactorySet
	}
	return Replaced
}

// Tries are those of a PIN or PUK. -1 is unknown.
type Tries struct {
	Left    int     `json:"left"`
	Total   int     `json:"total"`
	Setting Setting `json:"setting"`
}

// Management is the management key.
type Management struct {
	Algorithm string  `json:"algorithm,omitzero"`
	Touch     string  `json:"touch,omitzero"`
	Setting   Setting `json:"setting"`
}

// Occupied is a slot with a key, a certificate, or both.
type Occupied struct {
	Slot        string       `json:"slot"`
	Algorithm   string       `json:"algorithm,omitzero"`
	PIN         string       `json:"pin,omitzero"`
	Touch       string       `json:"touch,omitzero"`
	Origin      string       `json:"origin,omitzero"`
	Certificate *Certificate `json:"certificate,omitempty"`
	Attested    string       `json:"attested,omitzero"` // the verdict over the attestation; set by whoever verifies it

	Ref      Slot             `json:"-"`
	Public   crypto.PublicKey `json:"-"` // nil if the card does not say
	Evidence *hsm.PIVEvidence `json:"-"` // nil if there is none; unverified
}

// Certificate is what a certificate says, unverified.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	OtherKey  bool      `json:"other_key,omitzero"` // than the one in the slot
}

// CHUID is the card holder unique identifier (SP 800-73-4 Part 1, 3.1.2).
type CHUID struct {
	GUID    string `json:"guid"`
	Expires string `json:"expires"`
}

// KeyHistory counts retired keys (SP 800-73-4 Part 1, 3.3.3).
type KeyHistory struct {
	OnCard  int `json:"on_card"`  // with certificates on the card
	OffCard int `json:"off_card"` // with certificates elsewhere
}

// Further objects (SP 800-73-4 Part 1 table 3).
const (
	objectCCC        = 0x5FC107
	objectKeyHistory = 0x5FC10C
	objectDiscovery  = 0x7E
)

// Yubico's management application: SELECT, then READ CONFIG.
var managementApplication = []byte{0xA0, 0x00, 0x00, 0x05, 0x27, 0x47, 0x11, 0x17}

const insReadConfig = 0x1D

// Describe reads what the card in a reader tells about itself. It writes
// nothing, presents no PIN and leaves the card reset.
//
// Errors: hsm.ErrNoDevice, ErrRemoved, ErrBusy, ErrNotPIV, ErrUnavailable, or
// ctx's.
func Describe(ctx context.Context, reader string) (Description, error) {
	d, err := onCard(ctx, reader, describe)
	if err != nil {
		return Description{}, fmt.Errorf("describe token: %w", err)
	}
	return d, nil
}

func describe(c *card) (d Description, err error) {
	template, long, err := c.selectPIV()
	if err != nil {
		return d, err
	}
	if d.Application = applicationVersion(template); d.Application == "" {
		d.problem("the answer to SELECT has another form")
	}
	if long {
		d.problem("it is not selected by a short identifier: this kiosk cannot use it")
	}
	version, told, err := c.version()
	if err != nil {
		return d, err
	}
	if told {
		d.Firmware = fmt.Sprintf("%d.%d.%d", version[0], version[1], version[2])
	}
	if d.Serial, err = c.serial(); err != nil {
		return d, err
	}
	var s state
	if err := c.credentials(&s); err != nil {
		return d, err
	}
	d.Ready = s.Ready
	d.PIN = Tries{s.PINTries, s.pinTotal, s.pin.setting()}
	d.PUK = Tries{s.PUKTries, s.PUKTries, s.puk.setting()}
	if s.puk.total != 0 {
		d.PUK.Total = s.puk.total
	}
	d.Management = Management{algorithmName(s.admin.algorithm), touchName(s.admin.touch), s.admin.setting()}
	if d.CanAttest, err = c.attests(); err != nil {
		return d, err
	}
	if err := c.describeSlots(&d); err != nil {
		return d, err
	}
	if err := c.describeObjects(&d); err != nil {
		return d, err
	}
	d.FactoryNew = s.pin.factory && s.puk.factory && s.admin.factory && s.pin.left == s.pin.total && s.puk.left == s.puk.total &&
		!slices.ContainsFunc(d.Slots, func(o Occupied) bool { return o.Ref != slotAttestation })
	if d.spareEmpty() { // a key there might ask for a touch
		if d.CanAgree, err = c.agrees(); err != nil {
			return d, err
		}
	}
	d.FormFactor, err = c.formFactor()
	return d, err
}

func (d *Description) problem(format string, a ...any) {
	d.Problems = append(d.Problems, fmt.Sprintf(format, a...))
}

func (d *Description) spareEmpty() bool {
	return !slices.ContainsFunc(d.Slots, func(o Occupied) bool { return o.Ref == refSpare && o.Algorithm != "" })
}

// applicationVersion reads the last two bytes of the identifier in the
// application property template (SP 800-73-4 Part 2, 3.1.1): 01 00 is "1.0".
func applicationVersion(template []byte) string {
	outer, err := tlv.ParseOne(template, 0x61)
	if err != nil {
		return ""
	}
	nodes, err := tlv.Parse(outer.Value)
	if err != nil {
		return ""
	}
	id, _ := tlv.Find(nodes, 0x4F)
	n := len(id.Value)
	if n < 6 {
		return ""
	}
	return fmt.Sprintf("%d.%d", id.Value[n-2], id.Value[n-1])
}

// describeSlots looks into each slot of SP 800-73-4 and into F9.
func (c *card) describeSlots(d *Description) error {
	own, err := c.certificate(objectAttestation)
	if err == nil {
		d.Attestation = own
	} else if isAny(err, hsm.ErrRemoved, hsm.ErrNoDevice) {
		return err
	}
	slots := []Slot{Authentication, Signature, KeyManagement, CardAuthentication}
	for n := range int(lastRetired-firstRetired) + 1 {
		slots = append(slots, Retired(n))
	}
	for _, slot := range append(slots, slotAttestation) {
		o, occupied, err := c.describeSlot(slot, d)
		if err != nil {
			return err
		}
		if occupied {
			d.Slots = append(d.Slots, o)
		}
	}
	return nil
}

const slotAttestation Slot = 0xF9

func (c *card) describeSlot(slot Slot, d *Description) (o Occupied, occupied bool, err error) {
	m, err := c.metadata(byte(slot))
	if err != nil {
		return o, false, err
	}
	object := slot.object()
	if slot == slotAttestation {
		object = objectAttestation
	}
	b, status, err := c.object(object)
	if err != nil {
		return o, false, err
	}
	key := m.status == apdu.OK && m.algorithm != 0
	o = Occupied{Ref: slot, Slot: slot.String(), Algorithm: algorithmName(m.algorithm), PIN: pinName(m.pin), Touch: touchName(m.touch),
		Origin: m.origin, Public: m.public}
	if status == apdu.OK && len(b) > 0 {
		der, err := certificateOf(b)
		var parsed *x509.Certificate
		if err == nil {
			parsed, err = x509.ParseCertificate(der)
		}
		if err != nil {
			d.problem("slot %v: certificate: %v", slot, err)
		} else {
			o.Certificate = &Certificate{parsed.Subject.String(), parsed.Issuer.String(), parsed.NotBefore, parsed.NotAfter,
				m.public != nil && !same(m.public, parsed.PublicKey)}
			if !key {
				o.Algorithm = publicName(parsed.PublicKey)
			}
		}
	}
	if key && d.CanAttest && slot != slotAttestation && m.origin != "imported" {
		leaf, err := c.attest(slot)
		if isAny(err, hsm.ErrRemoved, hsm.ErrNoDevice) {
			return o, false, err
		}
		if err == nil && d.Attestation != nil {
			o.Evidence = &hsm.PIVEvidence{Certificate: leaf, Intermediate: d.Attestation}
		}
	}
	return o, key || status == apdu.OK && len(b) > 0, nil
}

// describeObjects reads what other programs use.
func (c *card) describeObjects(d *Description) error {
	for _, o := range []struct {
		name string
		id   uint32
		read func(nodes []tlv.Node) bool
	}{
		{"CHUID", objectCHUID, func(nodes []tlv.Node) bool {
			id, ok := tlv.Find(nodes, 0x34)
			expires, _ := tlv.Find(nodes, 0x35)
			d.CHUID = &CHUID{hex.EncodeToString(id.Value), printable(expires.Value)}
			return ok && len(id.Value) == 16
		}},
		{"CCC", objectCCC, func(nodes []tlv.Node) bool {
			id, ok := tlv.Find(nodes, 0xF0)
			d.CCC = hex.EncodeToString(id.Value)
			return ok
		}},
		{"discovery object", objectDiscovery, func(nodes []tlv.Node) bool {
			policy, ok := tlv.Find(nodes, 0x5F2F)
			d.PINUsage = hex.EncodeToString(policy.Value)
			return ok && len(policy.Value) == 2
		}},
		{"key history", objectKeyHistory, func(nodes []tlv.Node) bool {
			on, ok := tlv.Find(nodes, 0xC1)
			off, both := tlv.Find(nodes, 0xC2)
			if ok = ok && both && len(on.Value) == 1 && len(off.Value) == 1; ok {
				d.History = &KeyHistory{int(on.Value[0]), int(off.Value[0])}
			}
			return ok
		}},
	} {
		b, status, err := c.object(o.id)
		if err != nil {
			return err
		}
		if status != apdu.OK || len(b) == 0 {
			continue
		}
		tag := tlv.Tag(0x53)
		if o.id == objectDiscovery {
			tag = objectDiscovery
		}
		outer, err := tlv.ParseOne(b, tag)
		var nodes []tlv.Node
		if err == nil {
			nodes, err = tlv.Parse(outer.Value)
		}
		if err != nil || !o.read(nodes) {
			d.problem("%s: it has another form", o.name)
		}
	}
	return nil
}

// printable keeps a card from writing to a terminal what it likes.
func printable(b []byte) string {
	for _, c := range b {
		if c < 0x20 || c > 0x7E {
			return hex.EncodeToString(b)
		}
	}
	return string(b)
}

// formFactor asks the management application; "" if there is none.
func (c *card) formFactor() (string, error) {
	_, status, err := c.send(apdu.Command{INS: insSelect, P1: 0x04, Data: managementApplication, Le: apdu.MaxShortLe})
	if err != nil || status != apdu.OK {
		return "", err
	}
	b, status, err := c.send(apdu.Command{INS: insReadConfig, Le: apdu.MaxShortLe})
	if err != nil || status != apdu.OK || len(b) < 1 {
		return "", err
	}
	nodes, err := tlv.Parse(b[1:]) // behind one byte of length
	if err != nil {
		return "", nil
	}
	n, ok := tlv.Find(nodes, 0x04)
	if !ok || len(n.Value) != 1 {
		return "", nil
	}
	return formFactorName(n.Value[0] & 0x0F), nil // the upper bits are FIPS and Security Key marks
}

func formFactorName(b byte) string {
	names := []string{"unknown", "USB-A keychain", "USB-A nano", "USB-C keychain", "USB-C nano", "USB-C and Lightning", "USB-A biometric", "USB-C biometric"}
	if int(b) < len(names) {
		return names[b]
	}
	return fmt.Sprintf("form factor %d", b)
}

func algorithmName(b byte) string {
	for name, id := range algorithms {
		if id == b {
			return string(name)
		}
	}
	switch b {
	case 0, 0xFF:
		return ""
	case algorithm3DES:
		return "3des"
	case algorithmAES128:
		return "aes-128"
	case algorithmAES192:
		return "aes-192"
	case algorithmAES256:
		return "aes-256"
	case 0x05:
		return "rsa-3072"
	case 0x06:
		return "rsa-1024"
	case 0x16:
		return "rsa-4096"
	case 0xE1:
		return "x25519"
	}
	return fmt.Sprintf("algorithm %02X", b)
}

func publicName(k crypto.PublicKey) string {
	switch p := k.(type) {
	case *ecdsa.PublicKey:
		return map[int]string{256: string(hsm.P256), 384: string(hsm.P384)}[p.Params().BitSize]
	case ed25519.PublicKey:
		return string(hsm.Ed25519)
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa-%d", p.N.BitLen())
	}
	return ""
}

func pinName(b byte) string {
	for name, id := range pinPolicies {
		if id == b {
			return string(name)
		}
	}
	switch b {
	case 0:
		return ""
	case pinNever:
		return "never"
	case 4, 5:
		return "biometric"
	}
	return fmt.Sprintf("policy %d", b)
}

func touchName(b byte) string {
	for name, id := range touchPolicies {
		if id == b {
			return string(name)
		}
	}
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("policy %d", b)
}
