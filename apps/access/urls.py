"""The pages around a login. They stand before the admin's own, whose login page `login/` takes the place of; of
allauth's addresses there are these and no others."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from apps.access import invitation_pages, passwords
from apps.access.logins import entrance, security, sso

_login = [
    path("", entrance.LogIn.as_view(), name="account_login"),
    path("code/", entrance.SecondStep.as_view(), name="mfa_authenticate"),
    path("passkey/", entrance.PasskeyLogin.as_view(), name="mfa_login_webauthn"),
    path("sso/", sso.start, name="sso"),
    path("sso/callback/", sso.callback, name="sso_callback"),
]
_password = [
    # The login page links to the name that Django's admin knows.
    path("", passwords.Forgotten.as_view(), name="admin_password_reset"),
    path("sent/", passwords.Sent.as_view(), name="password_reset_done"),
    path("<uidb64>/<token>/", passwords.Choose.as_view(), name="password_reset_confirm"),
    path("done/", passwords.Chosen.as_view(), name="password_reset_complete"),
]
_security = [
    path("", admin.site.admin_view(security.security), name="mfa_index"),
    path("sign-out/", admin.site.admin_view(security.sign_out_elsewhere), name="sign_out_elsewhere"),
    path("start/", security.SetUp.as_view(), name="set_up_second_factor"),
    path("app/", security.AddApp.as_view(), name="mfa_activate_totp"),
    path("app/remove/", security.RemoveApp.as_view(), name="mfa_deactivate_totp"),
    path("passkeys/add/", security.AddPasskey.as_view(), name="mfa_add_webauthn"),
    path("passkeys/<int:pk>/remove/", security.RemovePasskey.as_view(), name="mfa_remove_webauthn"),
    path("codes/", security.Codes.as_view(), name="mfa_view_recovery_codes"),
    path("codes/new/", security.MakeCodes.as_view(), name="mfa_generate_recovery_codes"),
    path("again/password/", security.AgainByPassword.as_view(), name="account_reauthenticate"),
    path("again/code/", security.AgainByCode.as_view(), name="mfa_reauthenticate"),
    path("again/passkey/", security.AgainByPasskey.as_view(), name="mfa_reauthenticate_webauthn"),
]
urlpatterns = [
    path("admin/login/", include(_login)),
    path("admin/password_reset/", include(_password)),
    path("admin/security/", include(_security)),
    path("invitations/opened/", invitation_pages.Opened.as_view(), name="invitation_opened"),
    path("invitations/account/", invitation_pages.NewAccount.as_view(), name="invitation_account"),
    path("invitations/<str:token>/", invitation_pages.follow, name="invitation"),
]
