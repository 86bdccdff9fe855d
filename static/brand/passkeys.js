// What a browser says of a passkey that was not used, in words for people.
"use strict";

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const { name } = event.detail.exception;
  const place = document.getElementById("passkey-error");
  place.textContent =
    name === "InvalidStateError"
      ? "This device has a passkey for this account already."
      : name === "NotAllowedError"
        ? "Nothing was chosen. Try again, or choose another way."
        : "This browser cannot use a passkey here. Choose another way.";
  place.hidden = false;
});
