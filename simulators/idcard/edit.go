package idcard

import "enrollkiosk/smartcard/apdu"

// Exchange is one answer on its way out of the chip, for Profile.Edit to change.
type Exchange struct {
	Step    Step
	Command apdu.Command // with secure messaging taken off
	File    uint16       // which StepSelectFile and StepRead are about
	Wire    bool         // Answer is as it leaves the chip; before that, Edit saw it without secure messaging
	Answer  apdu.Response

	// OldKeys makes the chip stay with the session keys that it had, or with none,
	// where PACE, Basic Access Control or Chip Authentication would give new ones.
	OldKeys bool
}

// Step is what a command is for.
type Step string

// The steps of reading a card. A command that the chip cannot place has none.
const (
	StepSelectMaster      Step = "select master file"
	StepSelectApplication Step = "select application"
	StepSelectFile        Step = "select file"
	StepRead              Step = "read"
	StepChallenge         Step = "BAC challenge"
	StepMutual            Step = "BAC mutual authentication"
	StepPACESet           Step = "PACE MSE:Set AT"
	StepPACENonce         Step = "PACE nonce"
	StepPACEMap           Step = "PACE mapping"
	StepPACEAgree         Step = "PACE key agreement"
	StepPACEConfirm       Step = "PACE tokens"
	StepChipSet           Step = "Chip Authentication MSE:Set AT"
	StepChipAgree         Step = "Chip Authentication key agreement" // GENERAL AUTHENTICATE, or MSE:Set KAT
	StepActive            Step = "Active Authentication"
	StepGetResponse       Step = "GET RESPONSE"
)

// edit shows the answer to Profile.Edit.
func (c *Chip) edit(wire bool, answer apdu.Response) apdu.Response {
	if c.profile.Edit == nil {
		return answer
	}
	e := c.exchange
	e.Wire, e.Answer = wire, answer
	c.profile.Edit(&e)
	if e.OldKeys {
		c.next = nil
	}
	return e.Answer
}
