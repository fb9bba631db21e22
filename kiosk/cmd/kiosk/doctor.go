package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"enrollkiosk/kiosk/station"
)

func runDoctor(ctx context.Context, c *command) error {
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	var findings []station.Finding
	config, err := c.load()
	if err != nil {
		findings = []station.Finding{{Check: "configuration", Err: err, Remedy: "correct the file, then run doctor again"}}
	} else {
		findings = append([]station.Finding{{Check: "configuration", Detail: *c.config + " is in order"}}, station.Diagnose(ctx, config)...)
	}
	type row struct {
		Check  string `json:"check"`
		OK     bool   `json:"ok"`
		Detail string `json:"detail"`
		Remedy string `json:"remedy,omitempty"`
	}
	var rows []row
	var human strings.Builder
	var worst []error
	for _, f := range findings {
		r := row{Check: f.Check, OK: f.Err == nil, Detail: f.Detail}
		mark := "ok  "
		if f.Err != nil {
			r.Detail, r.Remedy, mark = f.Err.Error(), f.Remedy, "FAIL"
			worst = append(worst, f.Err)
		}
		rows = append(rows, r)
		fmt.Fprintf(&human, "%s  %-14s %s\n", mark, r.Check, r.Detail)
		if r.Remedy != "" {
			fmt.Fprintf(&human, "      %-14s -> %s\n", "", r.Remedy)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := c.print(strings.TrimSuffix(human.String(), "\n"), rows); err != nil {
		return err
	}
	if len(worst) == 0 {
		return nil
	}
	// The exit code is that of the first thing to mend: configuration before
	// hardware before network.
	slices.SortStableFunc(worst, func(a, b error) int { return urgency(a) - urgency(b) })
	return fmt.Errorf("%d of %d checks failed, first: %w", len(worst), len(findings), worst[0])
}

func urgency(err error) int {
	return slices.Index([]int{exitUsage, exitHardware, exitRefused, exitFailed, exitUnreachable}, exitCode(err))
}
