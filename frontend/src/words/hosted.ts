/** What the hosted page alone says, in English. */
export const hosted = {
  findConversations: "Search conversations",
  noConversations: "No conversations yet.",
  notFound: "No conversation has these words.",
  untitled: "New conversation",
  more: "Options for {title}",
  rename: "Rename",
  title: "Title",
  saveTitle: "Save",
  remove: "Delete",
  removeSure: "Delete this conversation for good?",
  share: "Share",
  copyLink: "Copy link",
  unshare: "Stop sharing",
  unshared: "The link no longer works.",
};
