package main

import (
	"sync"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/pcscd"
)

// traffic counts what crosses the simulated readers.
type traffic struct {
	mu           sync.Mutex
	apdus, bytes int
}

func (t *traffic) watch(s *stage.Stage) {
	for _, d := range []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer} {
		s.Reader(d).Trace(func(e pcscd.TraceEvent) {
			if !e.Answered {
				return
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			t.apdus++
			t.bytes += len(e.Command) + len(e.Response)
		})
	}
}

// since returns the counts since the last call.
func (t *traffic) since() (apdus, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	apdus, bytes = t.apdus, t.bytes
	t.apdus, t.bytes = 0, 0
	return apdus, bytes
}
