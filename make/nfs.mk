.PHONY: nfs

nfs: setup ## What NFS does to transcripts: a real NFSv4 server and two virtual machines (root, about 10 minutes)
	@$(BIN)/python scripts/nfs_lab.py $(NFS)
