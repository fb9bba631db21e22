package main

import (
	"fmt"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// records is a list of records. One is opened by how its number begins.
func (t *terminal) records(s kiosk.State) {
	for _, r := range s.Records {
		what := t.words.Standing(r.Standing)
		if r.Standing == kiosk.StandingSetAside {
			what = t.words.Rejection(kiosk.RejectionOf(r.Code))
		}
		fmt.Fprintf(t.out, "    %.16s  %s  %s\n", r.ID, r.Saved.Local().Format(time.DateTime), what)
	}
	if len(s.Records) == 0 {
		fmt.Fprintf(t.out, "    %s\n", t.words.Label(words.NoRecords, nil))
	}
}

// record is one record: how it stands, and what to do where it was not accepted.
func (t *terminal) record(r kiosk.RecordView) {
	fmt.Fprintf(t.out, "    %s: %s\n", t.words.Label(words.Record, nil), r.ID)
	if !r.Saved.IsZero() {
		fmt.Fprintf(t.out, "    %s %s\n", t.words.Label(words.Saved, nil), r.Saved.Local().Format(time.DateTime))
	}
	fmt.Fprintf(t.out, "    %s. %s\n", t.words.Standing(r.Standing), t.words.Means(r.Standing))
	if r.Code != "" {
		why := kiosk.RejectionOf(r.Code)
		fmt.Fprintf(t.out, "    %s: %s %s\n", t.words.Label(words.Why, nil), t.words.Rejection(why), r.Code)
		if r.Standing == kiosk.StandingSetAside || r.Standing == kiosk.StandingRefused {
			fmt.Fprintf(t.out, "  ! %s: %s\n", t.words.Label(words.WhatToDo, nil), t.words.Advice(why.Advice()))
		}
	}
	if r.QR != "" {
		fmt.Fprintf(t.out, "%s\n", r.QR)
	}
	t.outcome(r.Printed, r.File)
}

// day is a day's summary.
func (t *terminal) day(v kiosk.DayView) {
	fmt.Fprintf(t.out, "    %6s %6s\n", t.words.Label(words.DayOwn, nil), t.words.Label(words.DayAll, nil))
	for _, r := range t.words.Day(v) {
		fmt.Fprintf(t.out, "    %6s %6s  %s\n", r.Own, r.All, r.Name)
	}
	fmt.Fprintf(t.out, "    %s:\n", t.words.Label(words.DayToDo, nil))
	for _, todo := range t.words.ToDo(v) {
		fmt.Fprintf(t.out, "  ! %s\n", todo)
	}
	t.outcome(v.Printed, v.File)
}

// outcome says what became of a page.
func (t *terminal) outcome(printed bool, file string) {
	switch {
	case printed:
		fmt.Fprintf(t.out, "    %s\n", t.words.Label(words.PagePrinted, nil))
	case file != "":
		fmt.Fprintf(t.out, "    %s\n", t.words.Label(words.PageWritten, words.Args{"name": file}))
	}
}
