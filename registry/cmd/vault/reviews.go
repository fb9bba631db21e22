package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/vault"
)

// ask puts one question to the vault that a configuration describes, whether it
// serves or not.
func ask(ctx context.Context, file, method, path string, in, out any) (err error) {
	c, err := vault.Load(file)
	if err != nil {
		return err
	}
	console, err := vault.OpenConsole(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, console.Close()) }()
	err = console.Do(ctx, method, path, in, out)
	var no *vault.Refused
	if errors.As(err, &no) && no.Status < http.StatusInternalServerError {
		return command.Refuse(err)
	}
	return err
}

func reviewsList(ctx context.Context, args []string) error {
	f := command.Flags("vault reviews list", usage)
	file := f.String("config", "vault.toml", "")
	all, asJSON := f.Bool("all", false, ""), f.Bool("json", false, "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	path := "/reviews"
	if *all {
		path += "?all=1"
	}
	var list []vault.Review
	if err := ask(ctx, *file, http.MethodGet, path, nil, &list); err != nil {
		return err
	}
	if *asJSON {
		return command.PrintJSON(list)
	}
	for _, r := range list {
		fmt.Printf("%s  %s  %s  %s\n", r.Record, r.Time.Format(time.DateTime), about(r), state(r))
	}
	return nil
}

// about says why a review is there.
func about(r vault.Review) string {
	if r.Guardian {
		r.Guardian = false
		return about(r) + "; a guardian stands beside the holder"
	}
	switch {
	case r.Officer != "":
		return "officer " + r.Officer + " would enroll himself, or is the guardian"
	case r.Refused:
		return "the document or the person stands under another key"
	}
	return "same name and date of birth as another"
}

func state(r vault.Review) string {
	if r.Resolution != nil {
		return "decided: " + string(r.Resolution.Decision)
	}
	if r.Refused {
		return "open, refused so far"
	}
	return "open, active so far"
}

// recordID reads the id of a record.
func recordID(s string) (api.ID, error) {
	id, err := api.ParseID(s)
	if err != nil {
		return id, command.Misuse("%q is no record id: 64 hexadecimal digits", s)
	}
	return id, nil
}

func reviewsShow(ctx context.Context, args []string) error {
	f := command.Flags("vault reviews show", usage)
	file, asJSON := f.String("config", "vault.toml", ""), f.Bool("json", false, "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	id, err := recordID(rest[0])
	if err != nil {
		return err
	}
	var r vault.Review
	if err := ask(ctx, *file, http.MethodGet, "/reviews/"+id.String(), nil, &r); err != nil {
		return err
	}
	if *asJSON {
		return command.PrintJSON(r)
	}
	show1(r)
	return nil
}

func show1(r vault.Review) {
	fmt.Printf("record   %s\nwhy      %s\nstate    %s\nsince    %s\ndid      %s\n", r.Record, about(r), state(r), r.Time.Format(time.DateTime), r.DID)
	if r.Other != "" {
		fmt.Printf("other    %s\n", r.Other)
	}
	if d := r.Resolution; d != nil {
		fmt.Printf("decided  %s on %s by %s\nreason   %s\n", d.Decision, d.Time.Format(time.DateTime), d.By, d.Reason)
	}
}

func reviewsResolve(ctx context.Context, args []string) error {
	f := command.Flags("vault reviews resolve", usage)
	file := f.String("config", "vault.toml", "")
	decision, by, reason := f.String("decision", "", ""), f.String("by", "", ""), f.String("reason", "", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	id, err := recordID(rest[0])
	if err != nil {
		return err
	}
	status := receipt.Status(*decision)
	if status != receipt.Active && status != receipt.Refused || *by == "" || *reason == "" {
		return command.Misuse("--decision active or refused, --by and --reason are needed (see vault -h)")
	}
	var r vault.Review
	if err := ask(ctx, *file, http.MethodPost, "/reviews/"+id.String()+"/resolve", vault.Resolution{Decision: status, By: *by, Reason: *reason}, &r); err != nil {
		return err
	}
	show1(r)
	return nil
}
