// What the page itself remembers in this tab: who is shown, and who went offline on purpose.

/** What was kept under a name. */
export function kept(name: string): string | null {
  return sessionStorage.getItem(`tidewire demo ${name}`);
}

export function keep(name: string, value: string): void {
  sessionStorage.setItem(`tidewire demo ${name}`, value);
}
