package station

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/durable"
)

// diaryFile keeps the counts for officers' summaries. The registry's counts are in
// activityFile: these are for the desk alone, and go by the station's days.
const diaryFile = "days.json"

// diaryDays is how many days the diary keeps.
const diaryDays = 31

// diary is kiosk.Diary on one file, which is written whole for each note.
type diary struct {
	file string
	mu   sync.Mutex
	days map[string]map[string]kiosk.DayCounts // by local day, "2026-05-04", and officer, hex
}

// openDiary reads the diary. A file that is not in order is set aside: a summary
// that lacks something must not keep a kiosk from enrolling.
func openDiary(c Config, log *slog.Logger) (*diary, error) {
	d := &diary{file: c.in(diaryFile), days: map[string]map[string]kiosk.DayCounts{}}
	b, err := os.ReadFile(d.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d, nil
	case err != nil:
		return nil, fmt.Errorf("the days' counts: %w", err)
	}
	if err := strictly(b, &d.days); err != nil || d.days == nil {
		log.Warn("the file of the days' counts is damaged and set aside", "file", d.file, "cause", err)
		d.days = map[string]map[string]kiosk.DayCounts{}
		if err := os.Rename(d.file, d.file+".damaged"); err != nil {
			return nil, fmt.Errorf("the days' counts: %w", err)
		}
	}
	return d, nil
}

func localDay(t time.Time) string { return t.Local().Format(time.DateOnly) }

// Note implements kiosk.Diary.
func (d *diary) Note(officer [32]byte, at time.Time, more kiosk.DayCounts) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := maps.Clone(d.days)
	oldest := localDay(at.AddDate(0, 0, -diaryDays))
	maps.DeleteFunc(next, func(day string, _ map[string]kiosk.DayCounts) bool { return day < oldest })
	day, who := localDay(at), hex.EncodeToString(officer[:])
	counts := maps.Clone(next[day])
	if counts == nil {
		counts = map[string]kiosk.DayCounts{}
	}
	counts[who] = counts[who].Plus(more)
	next[day] = counts
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := durable.Replace(d.file, append(b, '\n')); err != nil {
		return fmt.Errorf("keep the day's counts: %w", err)
	}
	d.days = next
	return nil
}

// Day implements kiosk.Diary.
func (d *diary) Day(officer [32]byte, at time.Time) (own, all kiosk.DayCounts) {
	d.mu.Lock()
	defer d.mu.Unlock()
	counts := d.days[localDay(at)]
	for _, c := range counts {
		all = all.Plus(c)
	}
	return kiosk.DayCounts{}.Plus(counts[hex.EncodeToString(officer[:])]), all
}
