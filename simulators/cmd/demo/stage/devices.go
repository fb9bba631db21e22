// Package stage sets up everything that an enrollment needs, on simulated
// hardware and in one process: readers and cards on a private PC/SC socket, a
// TPM, registry and vault on loopback, and the production wiring of the kiosk
// (kiosk/station) with an ordinary configuration that points there. The demo
// and the end-to-end tests stand on it.
package stage

import (
	"fmt"
	"sync"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/simulators/specimen"
)

// OfficerPIN of the specimen officer's card.
const OfficerPIN = "246813"

// Devices are the kiosk's readers and the cards that people hold in their hands.
type Devices struct {
	issuers *specimen.Authority
	daemon  *pcscd.Server
	names   map[kiosk.Device]string

	mu      sync.Mutex
	readers map[kiosk.Device]*pcscd.Reader
	hand    map[kiosk.Device]pcscd.Card
	second  pcscd.Card // the second officer's
	// onOfficers is what lies on the officers' reader.
	onOfficers pcscd.Card
	lying      map[kiosk.Device]bool

	Chip     *idcard.Chip    // the citizen's ID card
	Guardian *idcard.Chip    // the guardian's; nil: nobody has come along
	Token    *pivtoken.Token // the citizen's token
}

// newDevices adds three readers to a PC/SC daemon, under names with the prefix
// so that several stages share one daemon, and makes the specimen's cards.
func newDevices(daemon *pcscd.Server, prefix string, issuers *specimen.Authority) (*Devices, error) {
	d := &Devices{issuers: issuers, daemon: daemon, readers: map[kiosk.Device]*pcscd.Reader{}, names: map[kiosk.Device]string{},
		hand: map[kiosk.Device]pcscd.Card{}, lying: map[kiosk.Device]bool{}}
	for device, name := range map[kiosk.Device]string{kiosk.DeviceDocument: "ID Card Reader", kiosk.DeviceToken: "YubiKey Reader",
		kiosk.DeviceOfficer: "Officer Reader"} {
		d.names[device] = prefix + " " + name
		if err := d.Plug(device); err != nil {
			return nil, err
		}
	}
	if err := d.IssueCard(idcard.SpecimenPerson(), idcard.Options{}); err != nil {
		return nil, err
	}
	d.IssueToken(pivtoken.Options{})
	officer, err := issuers.Officers[0].Card(issuers.Tokens, OfficerPIN)
	if err != nil {
		return nil, err
	}
	d.Hold(kiosk.DeviceOfficer, officer)
	if d.second, err = issuers.Officers[1].Card(issuers.Tokens, OfficerPIN); err != nil {
		return nil, err
	}
	return d, nil
}

// IssueCard makes the citizen's ID card.
func (d *Devices) IssueCard(p idcard.Person, o idcard.Options) error {
	chip, err := d.issuers.State.Personalise(p, o)
	if err != nil {
		return fmt.Errorf("make ID card: %w", err)
	}
	d.Chip = chip
	d.Hold(kiosk.DeviceDocument, chip)
	return nil
}

// IssueGuardian makes the ID card of a guardian, who comes along.
func (d *Devices) IssueGuardian(p idcard.Person, o idcard.Options) error {
	chip, err := d.issuers.State.Personalise(p, o)
	if err != nil {
		return fmt.Errorf("make ID card: %w", err)
	}
	d.Guardian = chip
	return nil
}

// Swap has the person hold the card that a screen asks for: the guardian's, or the
// citizen's again.
func (d *Devices) Swap(s kiosk.Screen) {
	if s == kiosk.ScreenGuardianCard {
		d.Hold(kiosk.DeviceDocument, d.Guardian)
		return
	}
	d.Hold(kiosk.DeviceDocument, d.Chip)
}

// IssueToken makes the citizen's token.
func (d *Devices) IssueToken(o pivtoken.Options) {
	if o.Root == nil {
		o.Root = d.issuers.Tokens
	}
	d.Token = pivtoken.New(o)
	d.Hold(kiosk.DeviceToken, d.Token)
}

// Hold changes which card the person has in the hand for a reader.
func (d *Devices) Hold(device kiosk.Device, card pcscd.Card) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hand[device] = card
}

// Bring puts the card on its reader, if it does not lie there.
func (d *Devices) Bring(device kiosk.Device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.lying[device] {
		d.lying[device] = true
		d.readers[device].Insert(d.hand[device])
		if device == kiosk.DeviceOfficer {
			d.onOfficers = d.hand[device]
		}
	}
}

// Officer has the card of the officer who signed on (0) or of the second one (1)
// lie on the officers' reader.
func (d *Devices) Officer(i int) {
	d.mu.Lock()
	card := d.hand[kiosk.DeviceOfficer]
	if i == 1 {
		card = d.second
	}
	same := d.lying[kiosk.DeviceOfficer] && d.onOfficers == card
	d.mu.Unlock()
	if same {
		return
	}
	d.Take(kiosk.DeviceOfficer)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lying[kiosk.DeviceOfficer], d.onOfficers = true, card
	d.readers[kiosk.DeviceOfficer].Insert(card)
}

// Take takes the card away. It may be called from a trace.
func (d *Devices) Take(device kiosk.Device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lying[device] {
		d.lying[device] = false
		d.readers[device].Pull()
	}
}

// Lies says whether a card is on the reader.
func (d *Devices) Lies(device kiosk.Device) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lying[device]
}

// Reader is the simulated reader of a role, for traces and faults. Plugging it in
// again makes it another one.
func (d *Devices) Reader(device kiosk.Device) *pcscd.Reader {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.readers[device]
}

// Unplug takes a reader away, with the card on it. It may be called from a trace.
func (d *Devices) Unplug(device kiosk.Device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lying[device] = false
	d.readers[device].Remove()
}

// Plug connects a reader.
func (d *Devices) Plug(device kiosk.Device) error {
	r, err := d.daemon.AddReader(d.names[device] + " 00 00")
	if err != nil {
		return fmt.Errorf("add reader: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readers[device] = r
	return nil
}

// close takes the readers away.
func (d *Devices) close() {
	for device := range d.readers {
		d.Unplug(device)
	}
}
