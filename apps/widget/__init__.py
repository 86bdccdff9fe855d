"""What end users meet in a browser: an assistant's widget on other web sites, and the hosted page of its own."""
