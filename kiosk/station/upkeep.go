package station

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"enrollkiosk/sync/queue"
)

// scrubInterval is how often all that the queue keeps is read, and written again
// from its other copy where it is damaged.
const scrubInterval = 24 * time.Hour

// upkeep is what was wrong with the queue's files since the agent's start.
type upkeep struct {
	mu   sync.Mutex
	said []string
}

// note logs what opening or scrubbing has mended, and keeps it for doctor.
func (u *upkeep) note(log *slog.Logger, r queue.Report) {
	if r.Compacted > 0 {
		log.Info("the queue's database is smaller", "bytes", r.Compacted)
	}
	if !r.Mended() {
		return
	}
	log.Warn("the queue was mended", "what", r.String())
	u.mu.Lock()
	defer u.mu.Unlock()
	u.said = append(u.said, r.String())
}

func (u *upkeep) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return strings.Join(u.said, "; ")
}

// keepWhole scrubs the queue beside the work, at the start and once a day.
func (s *Station) keepWhole(ctx context.Context) error {
	for {
		r, err := s.queue.Scrub(ctx)
		s.upkeep.note(s.log, r)
		if err != nil && ctx.Err() == nil {
			s.log.Error("the queue's files cannot all be read", "cause", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(scrubInterval):
		}
	}
}
