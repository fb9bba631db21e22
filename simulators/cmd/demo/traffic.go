package main

import (
	"sync"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/pcscd"
)

// traffic counts what crosses the simulated readers.
type traffic struct {
	mu        sync.Mutex
	exchanges []exchange
}

type exchange struct {
	at    time.Time
	bytes int
}

func (t *traffic) watch(s *stage.Stage) {
	for _, d := range []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer} {
		s.Reader(d).Trace(func(e pcscd.TraceEvent) {
			if !e.Answered {
				return
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			t.exchanges = append(t.exchanges, exchange{e.Start, len(e.Command) + len(e.Response)})
		})
	}
}

// since counts what crossed from a moment on.
func (t *traffic) since(began time.Time) (apdus, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.exchanges {
		if !e.at.Before(began) {
			apdus++
			bytes += e.bytes
		}
	}
	return apdus, bytes
}
