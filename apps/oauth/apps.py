"""Django's registration of this app."""

from django.apps import AppConfig


class OAuthConfig(AppConfig):
    name = "apps.oauth"
    verbose_name = "OAuth2"

    def ready(self) -> None:
        from apps.access import authentication, revocation  # noqa: PLC0415 - models are there only now
        from apps.oauth import bearers, texts  # noqa: PLC0415

        authentication.KINDS[texts.ACCESS] = bearers.look_up
        revocation.FORGET.append(bearers.forget)
        revocation.STANDING |= {"token": bearers.standing_tokens, "oauth": bearers.standing_applications}
