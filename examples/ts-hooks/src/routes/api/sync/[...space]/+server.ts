import { syncProxy } from "tidewire/server";

export const { GET, POST } = syncProxy();
