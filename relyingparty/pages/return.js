"use strict";
// The response code stands behind #, which browsers keep to themselves. It leaves
// the address bar and the history before it is sent.
const form = document.forms[0];
const code = new URLSearchParams(location.hash.slice(1)).get("response_code");
history.replaceState(null, "", location.pathname);
if (code) {
  form.elements.response_code.value = code;
  form.submit();
} else {
  document.getElementById("wait").hidden = true;
  document.getElementById("nothing").hidden = false;
}
