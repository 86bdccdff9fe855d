// The prompt editor: a preview of what the model would receive.
"use strict";

(() => {
  async function preview(button) {
    const form = button.form;
    const target = document.getElementById("preview");
    button.disabled = true;
    target.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(button.dataset.preview, { method: "POST", body: new FormData(form) });
      if (response.redirected) throw new Error("Your session has ended. Log in again in another tab.");
      if (!response.ok) throw new Error(`The server answered ${response.status}.`);
      const template = document.createElement("template");
      template.innerHTML = await response.text(); // the server's own partial, which escapes what people wrote
      target.replaceChildren(template.content);
    } catch (error) {
      target.textContent = error.message;
    } finally {
      button.disabled = false;
      target.removeAttribute("aria-busy");
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-preview]");
    if (button) preview(button);
  });
})();
