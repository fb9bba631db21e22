package ui

import (
	"slices"

	"enrollkiosk/kiosk"
)

// saving: signing, saving, sending. A token that signs may want to be touched.
func (d *drawing) saving() page {
	signs := slices.ContainsFunc(d.s.Steps, func(s kiosk.Step) bool {
		return s.Status == kiosk.StepRunning && (s.Name == kiosk.StepHolderSign || s.Name == kiosk.StepOldSign)
	})
	return d.waiting(either(signs, "touch-token", "leave-things"))
}
