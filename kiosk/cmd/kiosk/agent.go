package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/station"
)

func runAgent(ctx context.Context, c *command) (err error) {
	debug := c.flags.Bool("debug", false, "log more")
	timeline := c.flags.String("timeline", "", "append each step with its time to `file`, one JSON object a line")
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	log := c.logger(*debug)
	observe := func(kiosk.Event) {}
	if *timeline != "" {
		f, err := os.OpenFile(*timeline, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return usageError{"--timeline: " + err.Error()}
		}
		defer f.Close()
		enc := json.NewEncoder(f)
		observe = func(e kiosk.Event) {
			if err := enc.Encode(moment{e.Step, e.Began.UTC(), e.Took.Milliseconds(), e.APDUs, e.Bytes, e.Failed}); err != nil {
				log.Warn("timeline not written", "cause", err)
			}
		}
	}
	s, err := station.Open(ctx, config, station.Options{Log: log, Observe: observe})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.Close(); err == nil {
			err = closeErr
		}
	}()
	log.Info("agent ready", "kiosk", config.Kiosk.ID, "socket", config.Kiosk.Socket)
	return s.Run(ctx)
}

// moment is one line of a timeline: a kiosk.Event.
type moment struct {
	Step         kiosk.StepName `json:"step"`
	Began        time.Time      `json:"began"`
	Milliseconds int64          `json:"milliseconds"`
	APDUs        int            `json:"apdus,omitempty"`
	Bytes        int            `json:"bytes,omitempty"`
	Failed       kiosk.Code     `json:"failed,omitempty"`
}

func runConfigValidate(_ context.Context, c *command) error {
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	return c.print(*c.config+" is in order.", config)
}
