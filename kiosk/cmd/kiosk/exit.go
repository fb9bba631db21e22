package main

import (
	"errors"
	"slices"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/inspection"
	"enrollkiosk/smartcard/pcsc"
	"enrollkiosk/smartcard/prcid"
	"enrollkiosk/smartcard/trust"
	"enrollkiosk/sync/client"
)

// Exit codes, documented in BUILD.md.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitHardware    = 3
	exitRefused     = 4
	exitUnreachable = 5
	exitInterrupted = 130
)

// errRefused is a check of a command that said no.
var errRefused = errors.New("refused")

// exitCode classes an error by the documented codes.
func exitCode(err error) int {
	var config *station.ConfigError
	var usage usageError
	var rejected *record.Error
	var untrusted *trust.Error
	var belgian *beid.Error
	var page *inspection.PageError
	var busy *client.RetryAfter
	var sentAway *client.ProvisionRefused
	var keptBlocked *client.UnblockRefused
	var wrongPIN *hsm.WrongPIN
	var undelivered *station.UndeliveredError
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
	}
	switch {
	case errors.As(err, &config), errors.As(err, &usage), is(api.ErrCode, station.ErrNotProvisioned, tpm.ErrNotInitialized, kiosk.ErrPolicy,
		station.ErrTexts, station.ErrOtherUser, station.ErrOpenState, wire.ErrForeigner, words.ErrLanguage, parcel.ErrNoDrive, station.ErrNoExchange):
		return exitUsage
	case is(hsm.ErrNoDevice, hsm.ErrUnavailable, hsm.ErrLockout, tpm.ErrAltered, tpm.ErrOwned, tpm.ErrKeyFile, hsm.ErrRemoved, station.ErrTPMPermission, client.ErrKey, kiosk.ErrReaderMissing,
		kiosk.ErrServiceMissing, kiosk.ErrCardRemoved, kiosk.ErrCardMute, pcsc.ErrNoService, pcsc.ErrNoReader, pcsc.ErrNoCard,
		pcsc.ErrCardRemoved, pcsc.ErrUnresponsive, pcsc.ErrAbandoned, prcid.ErrNoAnswer, prcid.ErrModule, prcid.ErrNoCard, prcid.ErrCardLost):
		return exitHardware
	case errors.As(err, &sentAway), errors.As(err, &keptBlocked), errors.As(err, &wrongPIN), errors.As(err, &undelivered), errors.As(err, &rejected), errors.As(err, &untrusted), errors.As(err, &belgian), errors.As(err, &page), is(trust.ErrMalformed, trust.ErrExpired,
		trust.ErrUnknownAuthority, trust.ErrSignature, trust.ErrCertificate, trust.ErrRevoked, trust.ErrSignerExpired, trust.ErrUnsupported,
		station.ErrOlderList, identity.ErrUnsigned, identity.ErrIncomplete, prcid.ErrNotGenuine, prcid.ErrWrongCard, beid.ErrNotBelgianEID, icao.ErrWrongPassword, icao.ErrBlocked,
		icao.ErrNeedsMRZ, icao.ErrNotEMRTD, icao.ErrAccessDenied, icao.ErrChipNotGenuine, receipt.ErrForm, receipt.ErrSignature,
		receipt.ErrRecord, receipt.ErrInclusion, receipt.ErrWitnesses, checkpoint.ErrSplit, checkpoint.ErrKept, policy.ErrForm, policy.ErrSignature, policy.ErrRollback, policy.ErrFork, policy.ErrExpired,
		policy.ErrNotYet, kiosk.ErrClock, kiosk.ErrOffline, kiosk.ErrCertificate, station.ErrCertificates, station.ErrCertificateEnds, station.ErrOtherAuthority, tpm.ErrOtherTPM, tpm.ErrNoEndorsement, tpm.ErrCredential, tpm.ErrOtherBinding, kiosk.ErrRolledBack, errRefused,
		hsm.ErrNotPIV, hsm.ErrCannotAttest, hsm.ErrNotFactoryNew, hsm.ErrFactoryCredentials, hsm.ErrUnsupported, hsm.ErrPINBlocked, hsm.ErrPUKBlocked,
		attest.ErrRejected, piv.ErrPINForm, kiosk.ErrOfficerUnknown, station.ErrAgentRuns, station.ErrOtherToken, station.ErrNotHolders, station.ErrNoAdmin,
		station.ErrReceipts, station.ErrEraseAbandoned, station.ErrRetiring):
		return exitRefused
	case errors.As(err, &busy), is(wire.ErrNoAgent, client.ErrUnreachable, client.ErrCaptivePortal, client.ErrNonsense,
		client.ErrTLS, client.ErrNotAllowed):
		return exitUnreachable
	}
	return exitFailed
}

// hint says what to do about an error whose own words do not.
func hint(err error) string {
	var unpinned *station.UnpinnedError
	if errors.As(err, &unpinned) {
		return "compare that with what the publisher of the list says on another way, then: --pin " + unpinned.Authority
	}
	for _, h := range []struct {
		is   error
		text string
	}{
		{pcsc.ErrNoService, "systemctl start pcscd (Debian package pcscd)"},
		{pcsc.ErrNoReader, "pcsc_scan -r lists the readers; [readers] of the configuration, or --reader, names a part of one"},
		{icao.ErrWrongPassword, "check the number on the card and type it again"},
		{icao.ErrNeedsMRZ, "this card knows no access number: give --doc, --born and --expires as printed on it"},
		{icao.ErrNotEMRTD, "use an electronic ID card or passport"},
		{icao.ErrBlocked, "use the machine readable zone: --doc, --born and --expires"},
		{icao.ErrAccessDenied, "this card keeps that file for others: use another document"},
		{hsm.ErrNotFactoryNew, "kiosk token show says what is on it, kiosk token reset makes it factory-new"},
		{hsm.ErrNoDevice, "enable the TPM in the firmware; tpm.path of the configuration names it"},
		{station.ErrCertificates, "the registry gave certificates for other keys: kiosk provision again, with a new code"},
		{tpm.ErrOtherTPM, "a disk from another machine, or a cleared TPM: move kiosk.state away and provision this machine under an id of its own"},
		{client.ErrUnreachable, "registry.url of the configuration says where it is"},
	} {
		if errors.Is(err, h.is) {
			return h.text
		}
	}
	return ""
}
