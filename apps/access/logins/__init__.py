"""How people come in: passwords, second factors, passkeys, single sign-on, and what guards each of them."""
