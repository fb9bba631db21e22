package inspection

import (
	"sync"

	"enrollkiosk/smartcard/icao"
)

// Memory remembers how each kind of card likes to be read, by its answer to
// reset, so that the next one of the kind is not asked again what it can take. A
// card can only make its like slower. The zero value is ready; it may be used by
// several inspections at once.
type Memory struct {
	mu    sync.Mutex
	kinds map[string]icao.Habits
}

// maxKinds bounds what is remembered; a full memory forgets everything, which
// costs a few commands.
const maxKinds = 256

func (m *Memory) recall(atr []byte) icao.Habits {
	if m == nil {
		return icao.Habits{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kinds[string(atr)]
}

func (m *Memory) keep(atr []byte, h icao.Habits) {
	if m == nil || len(atr) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kinds == nil || len(m.kinds) >= maxKinds {
		m.kinds = map[string]icao.Habits{}
	}
	m.kinds[string(atr)] = h
}
