package words

import (
	"strconv"

	"enrollkiosk/kiosk"
)

// DayRow is one line of a day's summary. Own is empty where an officer has no count
// of their own.
type DayRow struct {
	Name, Own, All string
	Sum            bool // what the rows below are part of
}

// Day is the summary of a day, in lines. What never happened has none.
func (c *Catalog) Day(v kiosk.DayView) []DayRow {
	both := func(name string, own, all int) DayRow {
		return DayRow{Name: name, Own: strconv.Itoa(own), All: strconv.Itoa(all)}
	}
	sum := func(l Label, own, all int) DayRow {
		r := both(c.Label(l, nil), own, all)
		r.Sum = true
		return r
	}
	rows := []DayRow{sum(DayEnrolled, v.Own.Enrolled, v.All.Enrolled)}
	if v.All.Second > 0 {
		rows = append(rows, both(c.Label(DaySecond, nil), v.Own.Second, v.All.Second))
	}
	rows = append(rows, sum(DayUnfinished, v.Own.Unfinished(), v.All.Unfinished()))
	for _, e := range kiosk.Endings() {
		if v.All.Ended[e] > 0 {
			rows = append(rows, both(c.Ending(e), v.Own.Ended[e], v.All.Ended[e]))
		}
	}
	for _, r := range []struct {
		name Label
		n    int
	}{{DayDelivered, v.Delivered}, {DayRefused, v.Refused}, {DayWaiting, v.Waiting}, {DaySetAside, v.SetAside}} {
		rows = append(rows, DayRow{Name: c.Label(r.name, nil), All: strconv.Itoa(r.n), Sum: true})
	}
	for _, d := range []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer, kiosk.DeviceTPM, kiosk.DeviceDisk,
		kiosk.DeviceClock, kiosk.DeviceRegistry, kiosk.DevicePrinter} {
		if n := v.All.Trouble(d); n > 0 {
			rows = append(rows, both(c.Label(DayTrouble, Args{"name": c.Device(d)}), v.Own.Trouble(d), n))
		}
	}
	return rows
}

// ToDo says what is to do before the officer goes.
func (c *Catalog) ToDo(v kiosk.DayView) []string {
	var all []string
	if v.Waiting > 0 {
		all = append(all, c.Label(ToDoWaiting, Args{"count": v.Waiting}))
	}
	if v.SetAside > 0 {
		all = append(all, c.Label(ToDoSetAside, Args{"count": v.SetAside}))
	}
	if len(v.Alarms) > 0 { // there is room for one sentence, doctor tells the others
		why := c.Trouble(kiosk.Fault{Code: v.Alarms[0]}).Staff
		for _, code := range v.Alarms {
			why += " " + string(code)
		}
		all = append(all, why)
	}
	if len(all) == 0 {
		all = append(all, c.Label(ToDoNothing, nil))
	}
	return all
}
