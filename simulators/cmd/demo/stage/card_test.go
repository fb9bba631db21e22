package stage_test

import (
	"fmt"
	"sync"
	"testing"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

// Cards that are not in order: each gets its own words and leaves nothing.
func TestBadCards(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	for _, c := range []struct {
		fault idcard.Fault
		code  kiosk.Code
	}{
		{idcard.NotEMRTD, kiosk.CodeNotEMRTD},
		{idcard.TamperedDG1, kiosk.CodeDataAltered},
		{idcard.UnknownCSCA, kiosk.CodeUnknownAuthority},
		{idcard.Clone, kiosk.CodeChipCloned},
		{idcard.NoChipKeys, kiosk.CodeChipCloned},
		{idcard.Expired, kiosk.CodeExpired},
		{idcard.WrongMAC, kiosk.CodeCardProtocol},
		{idcard.DropSM, kiosk.CodeCardProtocol},
		{idcard.EndlessFile, kiosk.CodeCardProtocol},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			arrive(t, s, idcard.Options{Faults: []idcard.Fault{c.fault}}, pivtoken.Options{}).leave(trouble(c.code))
		})
	}
	works(t, s)
}

var _ = fmt.Sprint
var _ sync.Mutex
var _ pcscd.TraceEvent
var _ stage.Options
