package registry

import (
	"context"
	"sync"
	"time"
)

// contactEvery is how exactly a kiosk's last contact is kept: writing each down
// would cost more than most requests.
const contactEvery = time.Minute

// contacts remembers when each kiosk's last contact was written down.
type contacts struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// due says, once in contactEvery, that a kiosk's contact is to be written down.
func (c *contacts) due(kiosk string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.last[kiosk]).Abs() < contactEvery {
		return false
	}
	if c.last == nil {
		c.last = map[string]time.Time{}
	}
	c.last[kiosk] = now // there are as many as registered kiosks
	return true
}

// contact notes that a kiosk was heard. It holds up no request that the store
// cannot serve.
func (r *Registry) contact(ctx context.Context, kiosk string) {
	now := r.now()
	if !r.heard.due(kiosk, now) {
		return
	}
	if err := r.store.Heard(ctx, kiosk, now); err != nil {
		r.opts.Log.Error("a kiosk's contact is not kept", "kiosk", kiosk, "error", err)
	}
}
